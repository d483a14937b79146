"""Measure what a cell costs in a job of many queries: bytes read, bytes written, time of a core; and what a part costs.

Run it with the product's own interpreter: `.venv/bin/python benchmarks/job_cost.py`. Files are those of `map_scale.py`,
smaller: what is counted is processor time, less that of a job of few cells. What a hundred million cells take is
arithmetic, and stands in README.md.
"""

from __future__ import annotations

import json
import shutil
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import anndata as ad
import typer

import process_tree
import results
import speed_inputs
from map_scale import CACHE, COMMAND, HERE, N_FEW
from map_scale_inputs import Kind, Store, write_cells
from totalanvi.serving.bundles.files import hash_file
from totalanvi.serving.jobs.ray_session import connected_ray
from totalanvi.serving.jobs.records import PartRecord

RESULT = results.RESULTS / "job_cost.json"
TASKS = 500


@dataclass(frozen=True)
class Work:
    """What is asked of a job, and how its files are stored."""

    store: Store
    impute: bool
    cells: int


WORKS = {
    "labels": Work(Store.plain, False, 100_000),
    "labels, gzip": Work(Store.gzip, False, 100_000),
    "labels and proteins": Work(Store.plain, True, 20_000),
}


def main(rounds: Annotated[int, typer.Option(help="How often each is measured.", min=1)] = 3) -> None:
    """Measure, keep the figures in benchmarks/results/job_cost.json, print them."""
    speed_inputs.prepare(HERE / ".cache" / "speed", 0)
    CACHE.mkdir(parents=True, exist_ok=True)
    query = ad.read_h5ad(HERE / ".cache" / "speed" / "query.h5ad")
    found = {
        "machine": results.machine(),
        "rounds": rounds,
        "works": {name: _measure(work, query, rounds) for name, work in WORKS.items()},
        "hashing_bytes_per_core_second": _hashing(),
        "seconds_per_task_on_ray": _tasks_on_ray(),
    }
    RESULT.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


def _measure(work: Work, query: ad.AnnData, rounds: int) -> dict[str, Any]:
    few, many = (write_cells(CACHE, query, n_cells, Kind(work.store), 0) for n_cells in (N_FEW, work.cells))
    seconds = []
    for _ in range(rounds):
        few_seconds, few_bytes = _run(work, few)
        many_seconds, many_bytes = _run(work, many)
        seconds.append((many_seconds - few_seconds) / (work.cells - N_FEW))
    microseconds = 1e6 * statistics.median(seconds)
    return {
        "cells": work.cells,
        "read_bytes_per_cell": round(many.stat().st_size / work.cells),
        "written_bytes_per_cell": round((many_bytes - few_bytes) / (work.cells - N_FEW)),
        "core_microseconds_per_cell": round(microseconds, 1),
        "cells_per_core_second": round(1e6 / microseconds),
        "core_seconds_to_start": round(few_seconds, 1),
    }


def _run(work: Work, file: Path) -> tuple[float, int]:
    """Run a job of one file; returns seconds of a core, and the bytes of all that it left."""
    folder = CACHE / "job"
    shutil.rmtree(folder, ignore_errors=True)
    bundle = HERE / ".cache" / "speed" / "readout.bundle"
    how = "--impute" if work.impute else "--no-impute"
    ended = process_tree.run([COMMAND, "map", bundle, file, "--resume", folder, how], {"PYTHONWARNINGS": "ignore"})
    return ended.processor_seconds, sum(made.stat().st_size for made in folder.rglob("*") if made.is_file())


def _hashing() -> float:
    """Return how many bytes of results a core holds against the ledger in a second."""
    parts = list((CACHE / "job").rglob("part-*"))
    before = time.process_time()
    for _ in range(10):
        n_bytes = sum(hash_file(part).bytes for part in parts)
    return float(f"{10 * n_bytes / (time.process_time() - before):.2g}")


def _tasks_on_ray() -> float:
    """Return how long a task takes, by the clock, that does nothing but bring an entry of the ledger back."""
    part = PartRecord(
        query="q", rows=(0, 1), job="0" * 64, input="0" * 64, file="q", bytes=0, sha256="0" * 64, labels={}, n_unknown=0
    )

    class Idle:
        def score(self) -> PartRecord:
            return part

    with connected_ray(None) as ray:
        worker = ray.remote(Idle).remote()
        ray.get(worker.score.remote())
        started = time.perf_counter()
        for _ in range(TASKS):
            ray.get(worker.score.remote())
        return float(f"{(time.perf_counter() - started) / TASKS:.2g}")


if __name__ == "__main__":
    typer.run(main)
