"""How much memory this process may use."""

from __future__ import annotations

import os
from pathlib import Path

from totalanvi.machine.cgroups import CGROUP, MEMBERSHIP, folders_of

__all__ = ["bytes_of_memory"]

_LIMITS = ("memory.max", "memory.limit_in_bytes")
"""Of the second version of cgroups, and of the first."""


def bytes_of_memory(cgroup: Path = CGROUP, membership: Path = MEMBERSHIP) -> int:
    """Memory of the machine, or what a container leaves of it.

    Parameters
    ----------
    cgroup, membership
        See `totalanvi.machine.cgroups`.

    Examples
    --------
    >>> bytes_of_memory() > 0
    True
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [limit for folder in folders_of("memory", cgroup, membership) if (limit := _limit(folder)) is not None]
    return min([machine, *limits])


def _limit(folder: Path) -> int | None:
    """Return the bytes that one cgroup allows, None without a limit."""
    for name in _LIMITS:
        try:
            found = (folder / name).read_text(encoding="ascii").strip()
        except OSError:
            continue
        return int(found) if found.isdigit() else None  # "max" is no limit
    return None
