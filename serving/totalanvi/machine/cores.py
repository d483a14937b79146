"""How many cores this process may really use: ONNX Runtime itself looks at the machine, not at the container."""

from __future__ import annotations

import math
import os
from pathlib import Path

from totalanvi.machine.cgroups import CGROUP, MEMBERSHIP, folders_of

__all__ = ["usable_cores"]


def usable_cores(cgroup: Path = CGROUP, membership: Path = MEMBERSHIP) -> int:
    """Count the cores that affinity and cgroup quota leave to this process, at least one.

    Parameters
    ----------
    cgroup, membership
        See `totalanvi.machine.cgroups`.

    Examples
    --------
    >>> usable_cores() > 0
    True
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for folder in folders_of("cpu", cgroup, membership) if (quota := _quota(folder)) is not None]
    return max(1, min([affinity, *(math.ceil(quota) for quota in quotas)]))


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
