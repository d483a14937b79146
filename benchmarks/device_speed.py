"""Measure how fast a device serves labels and proteins of sparse rows that lie in memory.

Run it where the device is: `.venv/bin/python benchmarks/device_speed.py --help`. It needs a bundle and nothing else:
the query is drawn from what the bundle says of its reference.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import onnxruntime
import scipy.sparse as sp
import typer

import results
import speed_inputs
from stopwatch import Stopwatch
from totalanvi.machine.cores import usable_cores
from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.graphs import N_NEAREST
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.engine.engine import Engine
from totalanvi.serving.mapped import PROTEIN_ARRAYS, MapOptions

RESULT = results.RESULTS / "device_speed.json"
N_STORED = round(speed_inputs.NON_ZERO * speed_inputs.N_GENES)
"""Stored counts of a cell, as of real ones with this many genes."""
N_DRAWN = 20_000
"""Cells that are drawn; a longer query has them again and again."""
N_CHECKED, TOLERANCE = 2_000, 1e-3
PCIE_BYTES = 64e9
"""A second, one way, through 16 lanes of the fifth generation."""


def main(
    bundle: Annotated[list[Path] | None, typer.Option(help="A bundle to serve; may be repeated.")] = None,
    provider: Annotated[Literal["cuda", "cpu"], typer.Option(help="What computes.")] = "cuda",
    cells: Annotated[int, typer.Option(help="Cells of the query.", min=1)] = 200_000,
    rounds: Annotated[int, typer.Option(help="How often each is timed.", min=1)] = 5,
    threads: Annotated[int | None, typer.Option(help="Threads of the engine.", min=1)] = None,
    output: Annotated[Path | None, typer.Option(help="Where the figures go; by default to results, from cuda.")] = None,
) -> None:
    """Measure, print the figures as JSON, and keep those of a CUDA device."""
    if not bundle:
        speed_inputs.prepare(speed_inputs.CACHE, seed=0)
        bundle = [speed_inputs.CACHE / f"{name}.bundle" for name in speed_inputs.BUNDLES]
    record: dict[str, Any] = {
        "cells": cells,
        "stored_counts": N_STORED,
        "rounds": rounds,
        "threads": threads or usable_cores(),
        "device": device() if provider == "cuda" else "cpu",
        "machine": results.machine(),
        "versions": {name: version(name) for name in ("numba", "numpy", "scipy")}
        | {"onnxruntime": onnxruntime.__version__},
        "bundles": {folder.name: _measured(folder, provider, cells, rounds, threads) for folder in bundle},
        "load_average": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(record, indent=2))
    if output is None and provider == "cuda":
        output = RESULT
    if output is not None:
        output.write_text(json.dumps(record, indent=2) + "\n")


def _measured(folder: Path, provider: Literal["cuda", "cpu"], n_cells: int, rounds: int, threads: int | None) -> Any:
    """Time each work in turns, in seconds and cells a second by medians, after holding it against the CPU."""
    opened = Bundle.open(folder)
    # On the CPU, the way of a device is what is tried.
    engine = Engine(opened, provider, threads, complete_graphs=True)
    started = time.perf_counter()
    engine.warm()
    warm_seconds = time.perf_counter() - started
    query = draw_query(opened, n_cells)
    works = {
        "labels": MapOptions(impute=False),
        "proteins, as one batch": MapOptions(samples=1, impute_as=opened.manifest.batches[0]),
        "proteins, average of batches": MapOptions(samples=1),
    }
    part = query.rows(slice(0, min(N_CHECKED, n_cells)))
    beside = Engine(opened, "cpu", threads)
    differences = {name: _difference(engine, beside, part, options) for name, options in works.items()}
    watch = Stopwatch()
    for _ in range(rounds):
        for name, options in works.items():
            watch.time(name, partial(engine.run, query, options))
    seconds = {name: statistics.median(each) for name, each in watch.seconds.items()}
    return {
        "genes, proteins, labels": [query.n_genes, query.n_proteins, len(opened.manifest.labels)],
        "provider": engine.provider,
        "warm_seconds": round(warm_seconds, 2),
        "cells_per_second": {name: round(n_cells / each) for name, each in seconds.items()},
        "core_microseconds_per_cell": {
            name: round(statistics.median(each) / n_cells * 1e6, 2) for name, each in watch.processor.items()
        },
        "seconds": {name: [round(each, 4) for each in all_of] for name, all_of in watch.seconds.items()},
        "largest_difference_from_cpu": differences,
        "cells_per_second_through_pcie": {name: _limit(opened, options) for name, options in works.items()},
    }


def draw_query(bundle: Bundle, n_cells: int, seed: int = 0) -> AlignedCells:
    """Draw cells from the reference's average profile, each with as many stored counts, without proteins."""
    rng, n_genes = np.random.default_rng(seed), len(bundle.manifest.genes.names)
    share = np.maximum(bundle.reference.gene_share.astype(np.float64), 1e-9)
    n_drawn = min(n_cells, N_DRAWN)
    genes = np.empty((n_drawn, N_STORED), dtype=np.int32)
    for row in range(n_drawn):
        # The smallest of exponential waiting times: a draw without replacement, by share.
        waiting = rng.standard_exponential(n_genes) / share
        genes[row] = np.sort(np.argpartition(waiting, N_STORED)[:N_STORED])
    counts = rng.geometric(0.6, size=genes.shape).astype(np.float32)
    which = np.arange(n_cells) % n_drawn
    pointers = np.arange(n_cells + 1, dtype=np.int64) * N_STORED
    rna = sp.csr_matrix((counts[which].ravel(), genes[which].ravel(), pointers), shape=(n_cells, n_genes))
    nothing = np.zeros((n_cells, len(bundle.manifest.proteins)), dtype=np.float32)
    return AlignedCells(rna, counts.sum(axis=1)[which], nothing, nothing.astype(bool))


def _difference(engine: Engine, beside: Engine, cells: AlignedCells, options: MapOptions) -> dict[str, float]:
    """Hold results against the CPU's; return the largest difference of each, as a share of one or of what is larger."""
    found, expected = (each.run(cells, options).arrays() for each in (engine, beside))
    largest = {}
    for name in ("probabilities", "latent", "novelty", *(PROTEIN_ARRAYS if options.impute else ())):
        close = {"rtol": TOLERANCE, "atol": TOLERANCE}
        # A protein that was never measured has no bounds.
        np.testing.assert_allclose(found[name], expected[name], **close, equal_nan=True, err_msg=name)
        difference = np.abs(found[name] - expected[name]) / np.maximum(np.abs(expected[name]), 1)
        largest[name] = float(f"{np.nanmax(difference):.1e}")
    assert np.mean(found["guess"] == expected["guess"]) > 0.999
    return largest


def _limit(bundle: Bundle, options: MapOptions) -> int:
    """Return how many cells a second pass the bus, which is what each direction carries at a time."""
    manifest = bundle.manifest
    n_there, n_back = 2 * N_STORED + 1, manifest.n_latent + len(manifest.labels) + N_NEAREST
    if bundle.readout is not None:
        n_back += 2
    if options.impute:
        n_back += 5 * len(manifest.proteins)
    return round(PCIE_BYTES / (4 * max(n_there, n_back)))


def device() -> str:
    """Name the CUDA device."""
    asked = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    typer.run(main)
