"""How many connections a process may hold open: the system's default is a thousand, and every idle client is one."""

from __future__ import annotations

import sys

__all__ = ["allow_many_connections"]

_WANTED = 16_384


def allow_many_connections() -> None:
    """Raise the limit of open files as far as the system lets this process, and as connections need.

    Examples
    --------
    >>> allow_many_connections()
    """
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED if hard == resource.RLIM_INFINITY else min(_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
