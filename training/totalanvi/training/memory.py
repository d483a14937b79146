"""How much memory this process may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["bytes_of_memory"]

_CGROUP = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
_LIMITS = ("memory.max", "memory.limit_in_bytes")
"""Of the second version of cgroups, and of the first."""


def bytes_of_memory(cgroup: Path = _CGROUP, membership: Path = _MEMBERSHIP) -> int:
    """Memory of the machine, or what a container leaves of it.

    Parameters
    ----------
    cgroup
        Where the cgroup file systems are mounted.
    membership
        The file that names this process' cgroups.

    Examples
    --------
    >>> bytes_of_memory() > 0
    True
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_limits(cgroup, membership)])


def _limits(cgroup: Path, membership: Path) -> Iterator[int]:
    """Limits of this process' cgroups and of all above them: the tightest holds."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        mount = cgroup / "memory" if controllers else cgroup
        folder = mount / path.lstrip("/")
        for level in (folder, *folder.parents):
            for name in _LIMITS:
                try:
                    found = (level / name).read_text().strip()
                except OSError:
                    continue
                if found.isdigit():  # "max" is no limit
                    yield int(found)
            if level == mount:
                break
