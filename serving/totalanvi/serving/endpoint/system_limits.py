"""What a process asks of the system before it serves: many connections, and memory that is given back."""

from __future__ import annotations

import ctypes
import sys
from threading import Event, Thread

__all__ = ["allow_many_connections", "give_memory_back"]

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


def give_memory_back(every_seconds: float = 10) -> None:
    """Have glibc return to the system, now and then, what it keeps of memory that is free; elsewhere, do nothing.

    By itself it returns only what is free at the end of a heap, and something small always lies behind bodies of
    megabytes: under 64 clients a worker grew by 90 MB a minute, though nothing was lost. To take such bodies from the
    system one by one kept memory flat as well, for half as much processor time again.

    Parameters
    ----------
    every_seconds
        How often.

    Examples
    --------
    >>> give_memory_back()
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is None:  # another C library
        return

    def keep_trimming() -> None:
        pause = Event()
        while not pause.wait(every_seconds):
            trim(0)

    Thread(target=keep_trimming, name="totalanvi-memory", daemon=True).start()
