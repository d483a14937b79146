"""How many cores this process may really use: ONNX Runtime itself looks at the machine, not at the container."""

from __future__ import annotations

import math
import os
from pathlib import Path

__all__ = ["usable_cores"]

_CGROUP = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


def usable_cores(cgroup: Path = _CGROUP, membership: Path = _MEMBERSHIP) -> int:
    """Count the cores that affinity and cgroup quota leave to this process, at least one.

    Parameters
    ----------
    cgroup
        Where the cgroup file systems are mounted.
    membership
        The file that names this process' cgroups.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for folder in _folders(cgroup, membership) if (quota := _quota(folder)) is not None]
    return max(1, min([affinity, *(math.ceil(quota) for quota in quotas)]))


def _folders(cgroup: Path, membership: Path) -> list[Path]:
    """List the cgroups that bind this process: its own and all above it, since the tightest quota holds."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    folders = {cgroup, cgroup / "cpu"}
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = cgroup / controllers if controllers else cgroup
        own = root / path.lstrip("/")
        folders.update([root, own, *(parent for parent in own.parents if root in parent.parents)])
    return sorted(folders)


def _quota(folder: Path) -> float | None:
    """Return the cores that one cgroup allows, None without a limit."""
    try:
        # Version 2: "max 100000" or "150000 100000", in µs of CPU time and of wall time.
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        else:  # version 1: -1 for no limit
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="ascii").strip()
            period = (folder / "cpu.cfs_period_us").read_text(encoding="ascii").strip()
        if quota in ("max", "-1") or float(period) <= 0:
            return None
        return float(quota) / float(period)
    except (OSError, ValueError):
        return None
