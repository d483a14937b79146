"""Measure how fast labels and proteins are served, beside scvi-tools on the same cells in the same minutes.

Run it with the product's own interpreter: `.venv/bin/python benchmarks/speed.py --help`. Product and peer take turns,
round by round, so that whatever else the machine does falls on both; ratios are those of medians over the rounds.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import anndata as ad
import numpy as np
import onnxruntime
import scipy.sparse as sp
import typer

import peer_runs
import results
import speed_inputs
from speed_inputs import CACHE
from stopwatch import Stopwatch
from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.engine.engine import Engine
from totalanvi.serving.mapped import MapOptions

RESULT = results.RESULTS / "speed.json"
BATCH_SIZES = {"labels": (128, 512, 2048, 8192), "proteins": (32, 128, 512)}
N_CHECKED, N_IMPUTED = 2_000, 2_000
LABELS_ONLY = MapOptions(impute=False)


@dataclass(frozen=True)
class Work:
    """Something that is timed: what the peer has to do for it, with which options and bundle the product does."""

    title: str
    peer: str
    bundle: str
    options: MapOptions
    with_proteins: bool = True
    at_least: float | None = None
    aim: float | None = None

    @property
    def n_cells(self) -> int:
        """How many cells are mapped."""
        return N_IMPUTED if self.options.impute else speed_inputs.N_QUERY


ONE_BATCH = MapOptions(samples=25, impute_as="batch1")
WORKS = {
    "labels": Work("labels", "labels", "plain", LABELS_ONLY, at_least=8, aim=12),
    "labels_rna": Work("labels, RNA alone", "labels", "plain", LABELS_ONLY, with_proteins=False),
    "labels_readout": Work("labels, with a readout", "labels", "readout", LABELS_ONLY, at_least=8, aim=12),
    "labels_readout_rna": Work(
        "labels, with a readout, RNA alone", "labels", "readout", LABELS_ONLY, with_proteins=False
    ),
    "proteins": Work("proteins, 25 samples, as one batch", "proteins", "plain", ONE_BATCH, at_least=15, aim=25),
    "proteins_average": Work("proteins, 25 samples, averaged over two batches", "proteins", "plain", MapOptions()),
    "proteins_readout": Work("proteins, 25 samples, as one batch, with a readout", "proteins", "readout", ONE_BATCH),
}


def main(
    rounds: Annotated[int, typer.Option(help="How often each is timed.", min=1)] = 7,
    threads: Annotated[int, typer.Option(help="Threads for each method.", min=1)] = os.cpu_count() or 1,
    seed: Annotated[int, typer.Option(help="Of simulation and training.")] = 0,
    peer: Annotated[bool, typer.Option(help="Whether scvi-tools is timed as well.")] = True,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if a ratio fell by a fifth.")] = False,
) -> None:
    """Measure, write the figures to benchmarks/results/speed.json, print the table."""
    if check and not peer:
        raise typer.BadParameter("Expected --check with the peer, found --no-peer; ratios are what is compared.")
    speed_inputs.prepare(CACHE, seed)
    query = ad.read_h5ad(CACHE / "query.h5ad")
    cells = {with_proteins: aligned(query, with_proteins) for with_proteins in (True, False)}
    engines = {name: Engine(Bundle.open(CACHE / f"{name}.bundle"), "cpu", threads) for name in ("plain", "readout")}
    for engine in engines.values():
        engine.warm()
        _require_right(engine, cells[True], threads)
    accuracy: dict[str, float] = {name: _accuracy(engine, cells[True], query) for name, engine in engines.items()}
    record: dict[str, Any] = {
        "cells": [speed_inputs.N_QUERY, speed_inputs.N_GENES, speed_inputs.N_PROTEINS, speed_inputs.N_LABELS],
        "non_zero": round(cells[True].rna.nnz / np.prod(cells[True].rna.shape), 4),
        "seed": seed,
        "rounds": rounds,
        "threads": threads,
        "machine": results.machine(),
        "versions": {name: version(name) for name in ("totalanvi", "numba", "numpy", "scipy")}
        | {"onnxruntime": onnxruntime.__version__},
        "accuracy": accuracy,
    }
    watch = Stopwatch()
    if peer:
        peer_runs.set_up()
    with _peer(threads) if peer else nullcontext() as ask:
        best = {}
        if ask is not None:
            best = record["peer_batch_size"] = _best_batch_sizes(ask)
            record["versions"] |= ask.versions
        for _ in range(rounds):
            for name, batch_size in best.items():
                answer = ask(work=name, n_cells=_peer_cells(name), batch_size=batch_size)
                watch.note(f"scvi-tools {name}", answer["seconds"], answer["processor"])
                accuracy |= {"scvi-tools": answer["accuracy"]} if "accuracy" in answer else {}
            for name, work in WORKS.items():
                part = cells[work.with_proteins].rows(slice(0, work.n_cells))
                watch.time(name, partial(engines[work.bundle].run, part, work.options))
    record["load_average"] = round(os.getloadavg()[0], 1)
    record["cells_per_second"] = _rates(watch.seconds)
    record["cells_per_processor_second"] = _rates(watch.processor)
    for ratio, rates in (("ratio", "cells_per_second"), ("processor_ratio", "cells_per_processor_second")):
        found = record[rates]
        theirs = {name: found.get(f"scvi-tools {work.peer}") for name, work in WORKS.items()}
        record[ratio] = {name: round(found[name] / rate, 2) for name, rate in theirs.items() if rate}
    print(_table(record))
    if check:
        results.require_kept(record, RESULT)
    else:
        RESULT.write_text(json.dumps(record, indent=2) + "\n")


def aligned(query: ad.AnnData, with_proteins: bool) -> AlignedCells:
    """Return the query in the model's order, which is its own."""
    rna = sp.csr_matrix(query.X, dtype=np.float32)
    # Row by row, as alignment makes it; a table lies column by column.
    protein = np.ascontiguousarray(query.obsm[speed_inputs.PROTEINS].to_numpy(dtype=np.float32))
    protein *= np.float32(with_proteins)
    library = np.asarray(rna.sum(axis=1, dtype=np.float64), dtype=np.float32).ravel()
    return AlignedCells(rna, library, protein, np.full(protein.shape, with_proteins))


def _require_right(engine: Engine, cells: AlignedCells, threads: int) -> None:
    """A fast wrong answer fails: labels and proteins are those of the complete graphs on dense rows."""
    complete = Engine(engine.bundle, "cpu", threads, complete_graphs=True)
    part = cells.rows(slice(0, N_CHECKED))
    found, expected = (each.run(part, ONE_BATCH).arrays() for each in (engine, complete))
    for name in ("probabilities", "latent", "protein", "protein_foreground"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-4, err_msg=name)
    assert np.mean(found["guess"] == expected["guess"]) > 0.999


def _accuracy(engine: Engine, cells: AlignedCells, query: ad.AnnData) -> float:
    guess = np.array(engine.bundle.manifest.labels)[engine.run(cells, LABELS_ONLY).guess]
    return float(np.mean(guess == query.obs[speed_inputs.LABELS].to_numpy()))


class _Ask:
    """The peer's process, as a function."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.versions = self._answer()

    def __call__(self, **order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return self._answer() if order else {}

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("scvi-tools ended early; see what it said above.")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def _peer(threads: int) -> Iterator[_Ask]:
    script = Path(__file__).resolve().parent / "peers" / "scvi_speed.py"
    command = [peer_runs.PYTHON, "-W", "ignore", script, CACHE, "--threads", str(threads), "--max-epochs"]
    process = subprocess.Popen(
        [*map(str, command), str(speed_inputs.PEER_EPOCHS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )
    with process:
        ask = _Ask(process)
        yield ask
        ask()


def _peer_cells(work: str) -> int:
    return speed_inputs.N_QUERY if work == "labels" else N_IMPUTED


def _best_batch_sizes(ask: Callable[..., dict[str, Any]]) -> dict[str, int]:
    """Try each batch size once, after a first one that warms up, and keep the fastest of each work."""
    best = {}
    for work, sizes in BATCH_SIZES.items():
        seconds = {
            size: ask(work=work, n_cells=_peer_cells(work) // 2, batch_size=size)["seconds"]
            for size in (sizes[0], *sizes)
        }
        best[work] = min(seconds, key=lambda size: seconds[size])
    return best


def _rates(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Return the cells per second of the product's works and of the peer's, by medians."""
    cells = {name: work.n_cells for name, work in WORKS.items()}
    cells |= {f"scvi-tools {name}": _peer_cells(name) for name in BATCH_SIZES}
    return {name: round(cells[name] / statistics.median(each)) for name, each in seconds.items()}


def _table(record: dict[str, Any]) -> str:
    rates = record["cells_per_second"]
    lines = [
        "| work | totalanvi, cells/s | scvi-tools, cells/s | ratio | by processor time | at least / aim |",
        "|---|---|---|---|---|---|",
    ]
    for name, work in WORKS.items():
        shown = ["–", "–", "–"]
        if name in record["ratio"]:
            theirs = rates[f"scvi-tools {work.peer}"]
            shown = [f"{theirs:,.0f}", *(f"{record[kind][name]:.1f}×" for kind in ("ratio", "processor_ratio"))]
        goal = f"{work.at_least}× / {work.aim}×" if work.at_least else ""
        lines.append(f"| {work.title} | {rates[name]:,.0f} | {' | '.join(shown)} | {goal} |")
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
