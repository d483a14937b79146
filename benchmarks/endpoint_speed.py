"""Measure what an endpoint costs beside the engine in process: cells per second, latency, start, and client's import.

Run it with the product's own interpreter: `.venv/bin/python benchmarks/endpoint_speed.py --help`. Endpoint and engine
take turns on the same cells, client and server share the cores; ratios are those of medians over the rounds. A fast
wrong answer fails: what comes back is held against what the engine says in this process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Annotated, Any

import anndata as ad
import numpy as np
import typer

import results
import speed_inputs
from endpoint_process import processor_seconds, served
from speed import LABELS_ONLY, aligned
from speed_inputs import CACHE
from stopwatch import Stopwatch
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.client import Client
from totalanvi.serving.mapped import MapOptions, MappedCells
from totalanvi.serving.mapping.local import LocalReference

RESULT = results.RESULTS / "endpoint_speed.json"
N_SMALL, ASKED_PER_ROUND = 100, 20
PROTEINS = MapOptions(samples=25, impute_as="batch1")
TOLERANCE = 1e-4
"""Blocks are cut elsewhere here and there, which moves the last bits of single precision."""
IN_PROCESS = "from totalanvi.serving.mapping.local import LocalReference as L; L({!r}).engine.warm()"
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
    cells = aligned(query, with_proteins=True)
    watch = Stopwatch()
    _time_starts(watch, starts)
    with ExitStack() as stack:
        pairs = [_Pair.open(stack, name, suffix) for name, suffix in (("plain", ""), ("readout", "_readout"))]
        chunks = _chunks(cells, pairs[0].client.chunk_cells)
        few = cells.rows(slice(0, N_SMALL))
        for pair in pairs:
            _require_same(_ask(pair.client, chunks, LABELS_ONLY), pair.local.score(cells, LABELS_ONLY))
            _require_same(pair.client.score(few, PROTEINS), pair.local.score(few, PROTEINS))
        for _ in range(rounds):
            for pair in pairs:
                _time_turn(watch, pair, cells, chunks, few)
            _time_map(watch, pairs[0], query)
    record: dict[str, Any] = {
        "cells": [speed_inputs.N_QUERY, speed_inputs.N_GENES, speed_inputs.N_PROTEINS, speed_inputs.N_LABELS],
        "non_zero": round(cells.rna.nnz / np.prod(cells.rna.shape), 4),
        "seed": seed,
        "rounds": rounds,
        "starts": starts,
        "load_average": round(os.getloadavg()[0], 1),
        "machine": results.machine(),
        "versions": {name: version(name) for name in ("totalanvi", "bentoml", "numba", "numpy", "pyarrow", "httpx")},
        "seconds": watch.medians(watch.seconds),
        "least_seconds": {name: round(min(each), 5) for name, each in watch.seconds.items()},
        "processor_seconds": watch.medians(watch.processor),
        "ratio": watch.ratios(watch.seconds, "here"),
        "processor_ratio": watch.ratios(watch.processor, "here"),
    }
    print(_table(record))
    if check:
        results.require_kept(record, RESULT)
    else:
        RESULT.write_text(json.dumps(record, indent=2) + "\n")


@dataclass(frozen=True)
class _Pair:
    """A bundle in this process and at an endpoint."""

    suffix: str
    local: LocalReference
    client: Client
    used: Callable[[], float]
    """Processor seconds of the endpoint."""

    @classmethod
    def open(cls, stack: ExitStack, name: str, suffix: str) -> _Pair:
        """Open both, ready and warm."""
        endpoint = stack.enter_context(served(CACHE / f"{name}.bundle"))
        local = LocalReference(CACHE / f"{name}.bundle", "cpu")
        local.engine.warm()
        client = stack.enter_context(Client(endpoint.url))
        return cls(suffix, local, client, lambda: processor_seconds(endpoint.process.pid))


def _time_turn(
    watch: Stopwatch, pair: _Pair, cells: AlignedCells, chunks: Sequence[AlignedCells], few: AlignedCells
) -> None:
    """Time labels of all cells, and the answer for a few, here and there."""
    watch.time(f"labels{pair.suffix} here", lambda: pair.local.score(cells, LABELS_ONLY))
    watch.time(f"labels{pair.suffix}", lambda: _ask(pair.client, chunks, LABELS_ONLY), pair.used)
    for options, what in ((LABELS_ONLY, "latency"), (PROTEINS, "latency_proteins")):
        here, there = partial(pair.local.score, few, options), partial(pair.client.score, few, options)
        watch.time(f"{what}{pair.suffix} here", here, times=ASKED_PER_ROUND)
        watch.time(f"{what}{pair.suffix}", there, pair.used, times=ASKED_PER_ROUND)


def _time_map(watch: Stopwatch, pair: _Pair, query: ad.AnnData) -> None:
    """Time the whole way of a query in memory: names, alignment, labels, an annotated copy."""
    watch.time("map here", lambda: pair.local.map(query, impute=False))
    watch.time("map", lambda: pair.client.map(query, impute=False), pair.used)


def _time_starts(watch: Stopwatch, starts: int) -> None:
    """Time, in turns, a service, the engine in a process of its own, an import of the client and of nothing."""
    bundle = CACHE / "plain.bundle"
    for _ in range(starts):
        with served(bundle) as endpoint:
            watch.note("start", endpoint.start_seconds, endpoint.start_processor_seconds)
        for name, code in (
            ("start here", IN_PROCESS.format(str(bundle))),
            ("client_import", "import totalanvi.serving.client"),
            ("client_import here", "pass"),
        ):
            watch.time(name, lambda: subprocess.run([sys.executable, "-c", code], check=True), _children)  # noqa: B023


def _children() -> float:
    times = os.times()
    return times.children_user + times.children_system


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
    lines = [
        "| work | endpoint | in process | ratio | ratio of processor time | at least / aim |",
        "|---|---|---|---|---|---|",
    ]
    for name, ratio in record["ratio"].items():
        there, here = (_shown(name, record["seconds"][each]) for each in (name, f"{name} here"))
        used = record["processor_ratio"][name]
        lines.append(
            f"| {name.replace('_', ' ')} | {there} | {here} | {ratio:.2f} | {used:.2f} | {GOALS.get(name, '')} |"
        )
    return "\n".join(lines)


def _shown(name: str, seconds: float) -> str:
    if name.startswith(("labels", "map")):
        return f"{speed_inputs.N_QUERY / seconds:,.0f} cells/s"
    return f"{1000 * seconds:.1f} ms" if name.startswith("latency") else f"{seconds:.2f} s"


if __name__ == "__main__":
    typer.run(main)
