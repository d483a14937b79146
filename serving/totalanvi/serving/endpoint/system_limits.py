"""What a process asks of the system before it serves: to hold many connections, and to keep memory for a while."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

__all__ = ["allow_many_connections", "keep_freed_memory"]

_WANTED_FILES = 16_384

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""What glibc calls these parameters."""
_KEPT_BYTES, _LARGE_BYTES = 32 << 20, 16 << 20
"""Memory at the end of a heap that is kept, and what is a heap by itself, that nothing is kept of."""


def keep_freed_memory() -> None:
    """Have glibc keep what is freed for what comes next, rather than give it back and ask for it anew.

    Each request takes some megabytes, for its body, its cells and what is computed of them. To ask for them page by
    page, and to give them back, was three fifths of what the system did for a request. Without glibc nothing changes.

    Examples
    --------
    >>> keep_freed_memory()
    """
    # Whatever is missing: there is no such library or function, and memory is kept in some other way.
    with suppress(OSError, AttributeError, TypeError):
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018 - other libraries' mallopt has other parameters
        libc.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        libc.mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)


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
