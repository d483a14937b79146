"""Results as JSON, one file per case of a task and seed, or per benchmark of speed."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
SHARE_OF_RECORD = 0.8
"""A ratio below this share of the recorded one is a regression; the rest is the noise of a machine."""


def machine() -> dict[str, str | int]:
    """What the figures were measured on."""
    models = []
    if (cpu_info := Path("/proc/cpuinfo")).exists():
        models = [line.split(":", 1)[1].strip() for line in cpu_info.read_text().splitlines() if "model name" in line]
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count() or 1,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def require_kept(record: dict[str, Any], path: Path) -> None:
    """Fail where a ratio fell below `SHARE_OF_RECORD` of the recorded one.

    Parameters
    ----------
    record
        With ratios by name, under ``ratio`` of the clock's time and ``processor_ratio`` of the processors'.
    path
        Of the record before.

    Raises
    ------
    SystemExit
        When one fell.
    """
    before = json.loads(path.read_text())
    slower = {
        f"{name} ({kind})": f"{before[kind][name]:.2f} → {ratio:.2f}"
        for kind in ("ratio", "processor_ratio")
        for name, ratio in record[kind].items()
        if name in before.get(kind, {}) and ratio < SHARE_OF_RECORD * before[kind][name]
    }
    if slower:
        raise SystemExit(f"Expected ratios to be within a fifth of those on record, found {slower}.")


def read(case: str, seed: int, max_epochs: int) -> dict[str, Any]:
    """Return the figures of one case and seed by method, empty where nothing was measured."""
    path = _path_of(case, seed, max_epochs)
    methods: dict[str, Any] = json.loads(path.read_text())["methods"] if path.exists() else {}
    return methods


def update(case: str, seed: int, max_epochs: int, threads: int, method: str, figures: dict[str, Any]) -> None:
    """Write the figures of a method beside those of others that were measured before."""
    methods = read(case, seed, max_epochs)
    methods[method] = {**figures, "machine": {**machine(), "threads": threads}}
    record = {"task": case, "seed": seed, "max_epochs": max_epochs, "methods": methods}
    path = _path_of(case, seed, max_epochs)
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(record, indent=2) + "\n")
    temporary.replace(path)


def _path_of(case: str, seed: int, max_epochs: int) -> Path:
    return RESULTS / f"{case}-seed{seed}-epochs{max_epochs}.json"
