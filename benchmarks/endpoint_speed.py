"""Measure what an endpoint costs beside the engine in process: cells per second, latency, start, and client's import.

Run it with the product's own interpreter: `.venv/bin/python benchmarks/endpoint_speed.py --help`. Endpoint and engine
take turns on the same cells, client and server share the cores; ratios are those of medians over the rounds. A fast
wrong answer fails: what comes back is held against what the engine says in this process.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import anndata as ad
import numpy as np
import typer

import results
import speed_inputs
from endpoint_process import served
from speed import CACHE, LABELS_ONLY, aligned
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.client import Client
from totalanvi.serving.mapped import MapOptions, MappedCells
from totalanvi.serving.mapping.local import LocalReference

RESULT = results.RESULTS / "endpoint_speed.json"
N_SMALL, ASKED_PER_ROUND = 100, 20
PROTEINS = MapOptions(samples=25, impute_as="batch1")
TOLERANCE = 1e-4
"""Blocks are cut elsewhere here and there, which moves the last bits of single precision."""
SHARE_OF_RECORD = 0.8
IN_PROCESS = "from totalanvi.serving.mapping.local import LocalReference as L; L({!r}).engine.warm()"
BUNDLES = ("plain", "readout")
GOALS = {
    "labels": "50 % / 80 % of the engine",
    "labels_readout": "50 % / 80 % of the engine",
    "latency": "20 / 8 ms",
    "latency_readout": "20 / 8 ms",
    "start": "6 / 3 s",
    "client_import": "0.5 / 0.2 s",
}
"""At least, and what to aim for."""


def main(
    rounds: Annotated[int, typer.Option(help="How often each is timed.", min=1)] = 7,
    starts: Annotated[int, typer.Option(help="How often an endpoint is started.", min=1)] = 5,
    seed: Annotated[int, typer.Option(help="Of simulation and training.")] = 0,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if a ratio fell by a fifth.")] = False,
) -> None:
    """Measure, write the figures to benchmarks/results/endpoint_speed.json, print the table."""
    speed_inputs.prepare(CACHE, seed)
    query = ad.read_h5ad(CACHE / "query.h5ad")
    seconds: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[[], object]) -> None:
        started = time.perf_counter()
        work()
        seconds.setdefault(name, []).append(time.perf_counter() - started)

    processor = _time_starts(starts, seconds)
    with ExitStack() as stack:
        clients = {name: stack.enter_context(Client(_serve(stack, name))) for name in BUNDLES}
        local = {name: LocalReference(CACHE / f"{name}.bundle", "cpu") for name in BUNDLES}
        cells = aligned(query, with_proteins=True)
        few = cells.rows(slice(0, N_SMALL))
        chunks = _chunks(cells, clients["plain"].chunk_cells)
        for name in BUNDLES:
            local[name].engine.warm()
            _require_same(_ask(clients[name], chunks, LABELS_ONLY), local[name].score(cells, LABELS_ONLY))
            _require_same(clients[name].score(few, PROTEINS), local[name].score(few, PROTEINS))
        for _ in range(rounds):
            for name, suffix in zip(BUNDLES, ("", "_readout"), strict=True):
                here, there = local[name], clients[name]
                timed(f"labels{suffix} here", lambda: here.score(cells, LABELS_ONLY))  # noqa: B023
                timed(f"labels{suffix}", lambda: _ask(there, chunks, LABELS_ONLY))  # noqa: B023
                for options, what in ((LABELS_ONLY, "latency"), (PROTEINS, "latency_proteins")):
                    for _ in range(ASKED_PER_ROUND):
                        timed(f"{what}{suffix} here", lambda: here.score(few, options))  # noqa: B023
                        timed(f"{what}{suffix}", lambda: there.score(few, options))  # noqa: B023
            timed("map here", lambda: local["plain"].map(query, impute=False))
            timed("map", lambda: clients["plain"].map(query, impute=False))
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    record: dict[str, Any] = {
        "cells": [speed_inputs.N_QUERY, speed_inputs.N_GENES, speed_inputs.N_PROTEINS, speed_inputs.N_LABELS],
        "non_zero": round(cells.rna.nnz / np.prod(cells.rna.shape), 4),
        "seed": seed,
        "rounds": rounds,
        "starts": starts,
        "load_average": os.getloadavg()[0],
        "machine": results.machine(),
        "versions": {name: version(name) for name in ("totalanvi", "bentoml", "numba", "numpy", "pyarrow", "httpx")},
        "seconds": {name: round(each, 5) for name, each in medians.items()},
        "least_seconds": {name: round(min(each), 5) for name, each in seconds.items()},
        "processor_seconds": {name: round(statistics.median(each), 3) for name, each in processor.items()},
        "ratio": {
            name: round(medians[f"{name} here"] / medians[name], 3) for name in medians if f"{name} here" in medians
        },
    }
    print(_table(record))
    if check:
        _require_no_slower(record["ratio"])
    else:
        RESULT.write_text(json.dumps(record, indent=2) + "\n")


def _serve(stack: ExitStack, name: str) -> str:
    return stack.enter_context(served(CACHE / f"{name}.bundle")).url


def _time_starts(starts: int, seconds: dict[str, list[float]]) -> dict[str, list[float]]:
    """Time, in turns, a service, the engine in a process of its own, an import of the client and of nothing.

    Returns
    -------
    Processor seconds of the first two.
    """
    processor: dict[str, list[float]] = {"start": [], "start here": []}
    bundle = str(CACHE / "plain.bundle")
    for _ in range(starts):
        with served(Path(bundle)) as endpoint:
            seconds.setdefault("start", []).append(endpoint.start_seconds)
            processor["start"].append(endpoint.start_processor_seconds)
        for name, code in (
            ("start here", IN_PROCESS.format(bundle)),
            ("client_import", "import totalanvi.serving.client"),
            ("client_import here", "pass"),
        ):
            before, started = os.times(), time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            seconds.setdefault(name, []).append(time.perf_counter() - started)
            if name in processor:
                after = os.times()
                used = after.children_user + after.children_system - before.children_user - before.children_system
                processor[name].append(used)
    return processor


def _chunks(cells: AlignedCells, size: int) -> list[AlignedCells]:
    """Cut cells as alignment hands them to a client, block by block."""
    return [cells.rows(slice(start, start + size)) for start in range(0, len(cells), size)]


def _ask(client: Client, chunks: Sequence[AlignedCells], options: MapOptions) -> MappedCells:
    """Send chunks as `map` does, as many in flight as the client allows."""
    with ThreadPoolExecutor(client.in_flight) as pool:
        return MappedCells.concatenate(list(pool.map(lambda chunk: client.score(chunk, options), chunks)))


def _require_same(found: MappedCells, expected: MappedCells) -> None:
    for name, array in expected.arrays().items():
        there = found.arrays()[name]
        if array.dtype.kind == "f":
            np.testing.assert_allclose(there, array, rtol=TOLERANCE, atol=TOLERANCE, err_msg=name)
        else:
            assert np.mean(there == array) > 0.9999, name


def _table(record: dict[str, Any]) -> str:
    lines = ["| work | endpoint | in process | ratio | at least / aim |", "|---|---|---|---|---|"]
    for name, ratio in record["ratio"].items():
        there, here = (_shown(name, record["seconds"][each]) for each in (name, f"{name} here"))
        lines.append(f"| {name.replace('_', ' ')} | {there} | {here} | {ratio:.2f} | {GOALS.get(name, '')} |")
    used = record["processor_seconds"]
    lines.append(f"| start, processor | {used['start']:.2f} s | {used['start here']:.2f} s | | |")
    return "\n".join(lines)


def _shown(name: str, seconds: float) -> str:
    if name.startswith(("labels", "map")):
        return f"{speed_inputs.N_QUERY / seconds:,.0f} cells/s"
    return f"{1000 * seconds:.1f} ms" if name.startswith("latency") else f"{seconds:.2f} s"


def _require_no_slower(ratios: dict[str, float]) -> None:
    recorded = json.loads(RESULT.read_text())["ratio"]
    slower = {
        name: f"{recorded[name]:.2f} → {ratio:.2f}"
        for name, ratio in ratios.items()
        if name in recorded and ratio < SHARE_OF_RECORD * recorded[name]
    }
    if slower:
        raise SystemExit(f"Expected ratios to be within a fifth of those on record, found {slower}.")


if __name__ == "__main__":
    typer.run(main)
