"""A file as a lock between processes: whoever has it keeps it until it closes the file, or ends."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["taken_lock"]


def taken_lock(path: Path) -> int | None:
    """Take the lock that is a file, and return its descriptor; None when another process has it.

    Parameters
    ----------
    path
        Made when it is not there. The lock ends when the descriptor is closed, or with the process.
    """
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows, where a folder in use cannot be removed
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
