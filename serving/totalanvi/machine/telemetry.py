"""What libraries would tell their makers of a process: nothing, unless whoever runs it asks for that."""

from __future__ import annotations

import os

__all__ = ["tell_nobody"]


def tell_nobody() -> None:
    """Let ONNX Runtime keep no record of this machine, and send none; before it is imported, as it asks only then.

    Otherwise it makes up an id for the machine, and keeps it with a data base of events in the user's cache folder. Who
    sets ``ORT_DISABLE_TELEMETRY`` decides.

    Examples
    --------
    >>> tell_nobody()
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
