"""What a process asks of the system before it serves: that it may hold many connections."""

from __future__ import annotations

import sys

__all__ = ["allow_many_connections"]

_WANTED_FILES = 16_384


def allow_many_connections() -> None:
    """Raise the limit of open files as far as the system lets this process, and as connections need.

    The system's default is about a thousand, and every idle client is one.

    Examples
    --------
    >>> allow_many_connections()
    """
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_FILES if hard == resource.RLIM_INFINITY else min(_WANTED_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
