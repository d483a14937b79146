"""The control groups that bind this process, of either version."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

__all__ = ["CGROUP", "MEMBERSHIP", "folders_of"]

CGROUP = Path("/sys/fs/cgroup")
"""Where the cgroup file systems are mounted."""

MEMBERSHIP = Path("/proc/self/cgroup")
"""The file that names this process' cgroups."""


def folders_of(controller: str, cgroup: Path = CGROUP, membership: Path = MEMBERSHIP) -> Iterator[Path]:
    """List the folders of a controller, this process' own and all above it: the tightest limit holds.

    Parameters
    ----------
    controller
        ``"cpu"`` or ``"memory"``.
    cgroup, membership
        See `CGROUP` and `MEMBERSHIP`.
    """
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux
        lines = []
    # Within a container, its own group may be mounted as the root, whatever its path is called outside.
    folders = {cgroup, cgroup / controller}
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        root = cgroup / controllers if controllers else cgroup
        own = root / path.lstrip("/")
        folders.update([root, own, *(parent for parent in own.parents if root in parent.parents)])
    yield from sorted(folders)
