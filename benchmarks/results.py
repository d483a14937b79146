"""Results as JSON, one file per case of a task and seed."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


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
