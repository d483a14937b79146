"""What strangers send may stand in a log, but never begin a line of its own there."""

from __future__ import annotations

import logging
import re

__all__ = ["OneLine"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class OneLine(logging.Filter):
    r"""Writes control characters of a message as escapes; BentoML logs paths as they are decoded.

    Examples
    --------
    >>> record = logging.LogRecord("name", logging.INFO, "", 0, "path=%s", ("/a\nforged",), None)
    >>> OneLine().filter(record), record.getMessage()
    (True, 'path=/a\\x0aforged')
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record, and let it pass."""
        record.msg = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", record.getMessage())
        record.args = ()
        return True
