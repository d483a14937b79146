"""Measure what lower precision saves and what it costs: bundles in each precision, in turns.

Run it with the product's own interpreter: `.venv/bin/python benchmarks/precision.py --help`. Bundles are made when they
are not there. On a machine with a CUDA device, `--provider cuda --folder FOLDER` needs nothing but the bundles.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import onnxruntime
import typer

import answers
import product_run
import results
import speed_inputs
import tasks
from device_speed import device, draw_query
from stopwatch import Stopwatch
from totalanvi.machine.cores import usable_cores
from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.precision import LOWERED
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.engine.engine import Engine
from totalanvi.serving.mapped import MapOptions

PRECISIONS = ("float32", *LOWERED)
CACHE = speed_inputs.CACHE.parent / "precision"
LABELS, PROTEINS = MapOptions(impute=False), MapOptions(samples=25, impute_as="batch1")
N_CELLS = {"cpu": {"labels": 20_000, "proteins": 2_000}, "cuda": {"labels": 200_000, "proteins": 20_000}}
N_CHECKED = 2_000
REAL, SEED, EPOCHS = "pbmc10k", 0, 40
"""Real cells that precision is judged on: the task of `accuracy.py`."""


def main(
    provider: Annotated[Literal["cpu", "cuda"], typer.Option(help="What computes.")] = "cpu",
    rounds: Annotated[int, typer.Option(help="How often each is timed.", min=1)] = 7,
    threads: Annotated[int, typer.Option(help="Threads of the engine.", min=1)] = usable_cores(),
    folder: Annotated[Path, typer.Option(help="Where bundles are, or are made.")] = CACHE,
    precision: Annotated[
        list[str] | None, typer.Option(help="Beside float32; may be repeated; all by default.")
    ] = None,
    speed: Annotated[bool, typer.Option(help="Whether anything is timed.")] = True,
    real: Annotated[bool, typer.Option(help="Whether real cells are mapped, which takes their data.")] = True,
    data: Annotated[Path, typer.Option(help="Folder of the real cells.")] = tasks.DATA,
) -> None:
    """Measure, write the figures to benchmarks/results/precision.json or precision_cuda.json, print them."""
    chosen = ["float32", *(precision or LOWERED)]
    output = results.RESULTS / ("precision.json" if provider == "cpu" else "precision_cuda.json")
    record: dict[str, Any] = json.loads(output.read_text()) if output.exists() else {}
    if speed:
        record |= {
            "device": device() if provider == "cuda" else "cpu",
            "machine": results.machine(),
            "threads": threads,
            "rounds": rounds,
            "cells": N_CELLS[provider],
            "versions": {name: version(name) for name in ("numba", "numpy", "scipy")}
            | {"onnxruntime": onnxruntime.__version__},
            "bundles": {
                name: _measured(folder, name, chosen, provider, rounds, threads) for name in ("plain", "readout")
            },
            "load_average": round(os.getloadavg()[0], 1),
        }
    if real and provider == "cpu":
        case = tasks.prepare(REAL, SEED, data, speed_inputs.CACHE.parent)[REAL]
        record["real_cells"] = _on_real_cells(case, folder, chosen, threads)
    print(json.dumps(record, indent=2))
    output.write_text(json.dumps(record, indent=2) + "\n")


def _measured(
    folder: Path, name: str, chosen: list[str], provider: Literal["cpu", "cuda"], rounds: int, threads: int
) -> dict[str, Any]:
    """Time labels and proteins in each precision, round by round, and hold them against those of float32."""
    if not all(_bundle(folder, name, precision).exists() for precision in chosen):
        speed_inputs.prepare(speed_inputs.CACHE, seed=0)
    bundles = {one: Bundle.open(_made(speed_inputs.CACHE / f"{name}.checkpoint", folder, name, one)) for one in chosen}
    engines = {one: Engine(bundle, provider, threads) for one, bundle in bundles.items()}
    query = draw_query(bundles["float32"], max(N_CELLS[provider].values()))
    works = {
        f"{work} {one}": partial(engine.run, query.rows(slice(0, N_CELLS[provider][work])), options)
        for work, options in (("labels", LABELS), ("proteins", PROTEINS))
        for one, engine in engines.items()
    }
    for engine in engines.values():
        engine.warm()
    watch = Stopwatch()
    for _ in range(rounds):
        for work, run in works.items():
            watch.time(work, run)
    seconds, processor = (
        {work: statistics.median(each) for work, each in found.items()} for found in (watch.seconds, watch.processor)
    )
    part = query.rows(slice(0, N_CHECKED))
    return {
        one: {
            "cells_per_second": {
                work: round(N_CELLS[provider][work] / seconds[f"{work} {one}"]) for work in N_CELLS[provider]
            },
            "ratio": {
                work: round(seconds[f"{work} float32"] / seconds[f"{work} {one}"], 3) for work in N_CELLS[provider]
            },
            "processor_ratio": {
                work: round(processor[f"{work} float32"] / processor[f"{work} {one}"], 3) for work in N_CELLS[provider]
            },
            **_told(bundle),
            "beside_float32": _difference(engines["float32"], engines[one], part),
        }
        for one, bundle in bundles.items()
    }


def _told(bundle: Bundle) -> dict[str, Any]:
    """What a bundle says of its size, and of its cost on held-out cells, which is measured on a CPU."""
    cost = bundle.manifest.precision
    n_bytes = sum(record.bytes for record in bundle.manifest.files.values())
    return {"bytes": n_bytes, "cost": None if cost is None else cost.model_dump(mode="json")}


def _difference(full: Engine, lowered: Engine, cells: AlignedCells) -> dict[str, float]:
    """Hold cells against float32 on the same device: other labels, probabilities, latent and counts."""
    expected, found = (engine.run(cells, PROTEINS) for engine in (full, lowered))
    spread = np.sqrt(expected.latent.var(axis=0, dtype=np.float64).sum())
    return {
        "other_labels": float(np.mean(expected.guess != found.guess)),
        "largest_difference_of_probabilities": float(np.abs(expected.probabilities - found.probabilities).max()),
        "largest_move_of_latent_by_spread": float(
            np.linalg.norm(found.latent - expected.latent, axis=1).max() / spread
        ),
        "median_change_of_counts": float(np.median(np.abs(found.protein / np.maximum(expected.protein, 1e-2) - 1))),
    }


def _on_real_cells(case: Path, folder: Path, chosen: list[str], threads: int) -> dict[str, Any]:
    """Train on a part of the real cells, export in each precision, and map another part, whose truth is known."""
    commands = product_run.Commands(threads)
    checkpoint = folder / f"{REAL}.checkpoint"
    if not checkpoint.exists():
        product_run.train(case, checkpoint, EPOCHS, commands)
    figures: dict[str, Any] = {"task": REAL, "seed": SEED, "max_epochs": EPOCHS}
    for one in chosen:
        bundle = _made(checkpoint, folder, REAL, one)
        with tempfile.TemporaryDirectory() as work:
            scored = answers.score(tasks.Truth.read(case), product_run.map_queries(case, bundle, Path(work), commands))
        scored["imputation"].pop("proteins")
        kept = {name: scored[name] for name in ("labels", "novelty", "sets", "imputation")}
        figures[one] = kept | _told(Bundle.open(bundle))
    return figures


def _made(checkpoint: Path, folder: Path, name: str, precision: str) -> Path:
    """Return a bundle, made when it is not there."""
    bundle = _bundle(folder, name, precision)
    if not bundle.exists():
        from totalanvi.export import export_bundle

        export_bundle(checkpoint, bundle, precision=precision)
    return bundle


def _bundle(folder: Path, name: str, precision: str) -> Path:
    return folder / f"{name}.{precision}.bundle"


if __name__ == "__main__":
    typer.run(main)
