"""Measure how fast `totalanvi map` takes a file of a million cells, and in what room, beside the engine in memory.

Run it with the product's own interpreter: `.venv/bin/python benchmarks/map_scale.py --help`. The command runs as users
run it, in a process of its own, whose memory is watched together with that of its children; the engine is timed before
and after it, with the same options on as many threads. What is compared is the share of the engine's rate that is left.
"""

from __future__ import annotations

import re
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import anndata as ad
import h5py
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import scipy.sparse as sp
import typer

import map_scale_record
import process_tree
import speed_inputs
from map_scale_inputs import Kind, Store, drawn_cells, write_cells
from totalanvi.machine.cores import usable_cores
from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.engine.engine import Engine
from totalanvi.serving.mapped import MapOptions, MappedCells

HERE = Path(__file__).resolve().parent
CACHE = HERE / ".cache" / "map"
COMMAND = Path(sys.executable).with_name("totalanvi")
N_FEW, N_CHECKED, N_IMPUTED = 2_000, 2_000, 4_000
"""Cells of the file that tells what starting costs; that are compared, at each end of an output; that the engine has to
impute when it is timed."""


@dataclass(frozen=True)
class Work:
    """What is asked of the command."""

    title: str
    bundle: str
    output: str
    impute: bool = False

    @property
    def options(self) -> MapOptions:
        """The same, for the engine."""
        return MapOptions(impute=self.impute)


WORKS = {
    "labels": Work("labels → parquet, no readout", "plain", "out.parquet"),
    "labels_readout": Work("labels → parquet", "readout", "out.parquet"),
    "annotated": Work("labels → annotated h5ad", "readout", "out.h5ad"),
    "proteins": Work("labels and proteins → parquet", "readout", "out.parquet", impute=True),
}


def main(
    cells: Annotated[int, typer.Option(help="Cells of the file.", min=2 * N_CHECKED)] = 1_000_000,
    work: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(WORKS)}; all unless given.")] = None,
    store: Annotated[Store, typer.Option(help="How the file is stored.")] = Store.plain,
    proteins: Annotated[bool, typer.Option(help="Whether the cells have proteins.")] = False,
    more_genes: Annotated[
        bool, typer.Option(help="Whether genes come in another order, among as many that the reference lacks.")
    ] = False,
    rounds: Annotated[int, typer.Option(help="How often each is timed.", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="Of simulation, training and the cells that are drawn.")] = 0,
    record: Annotated[bool, typer.Option(help="Whether the figures are kept.")] = True,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if a share fell by a fifth.")] = False,
) -> None:
    """Measure, keep the figures in benchmarks/results/map_scale.json, print the table."""
    speed_inputs.prepare(HERE / ".cache" / "speed", seed)
    CACHE.mkdir(parents=True, exist_ok=True)
    query = ad.read_h5ad(HERE / ".cache" / "speed" / "query.h5ad")
    kind = Kind(store, proteins, more_genes)
    files = [write_cells(CACHE, query, n_cells, kind, seed) for n_cells in (N_FEW, cells)]
    found = {name: _measure(WORKS[name], files, query, proteins, rounds, seed) for name in work or WORKS}
    print(map_scale_record.table(str(kind), found, {name: WORKS[name].title for name in found}))
    if check:
        map_scale_record.require_no_worse(str(kind), found)
    elif record:
        map_scale_record.keep(str(kind), found, {"seed": seed, "rounds": rounds, "threads": usable_cores()})


def _measure(
    work: Work, files: list[Path], query: ad.AnnData, with_proteins: bool, rounds: int, seed: int
) -> dict[str, Any]:
    engine = Engine(Bundle.open(HERE / ".cache" / "speed" / f"{work.bundle}.bundle"), "cpu")
    engine.warm()
    in_memory = _aligned(query, with_proteins)
    few = _map(work, files[0])
    rates, processor, ended = [_engine(engine, work, in_memory)], [], []
    for _ in range(rounds):
        ended.append(_map(work, files[1]))
        rates.append(_engine(engine, work, in_memory))
    n_cells, rate = _said(ended[0].output)
    _require_right(engine, work, in_memory, drawn_cells(n_cells, seed))
    processor = [(each.processor_seconds - few.processor_seconds) / (n_cells - N_FEW) for each in ended]
    own = statistics.median(rate for rate, _ in rates)
    of_engine = statistics.median(seconds for _, seconds in rates)
    rate = statistics.median(_said(each.output)[1] for each in ended)
    return {
        "cells": n_cells,
        "cells_per_second": round(rate),
        "engine_cells_per_second": round(own),
        "share": round(rate / own, 3),
        "processor_share": round(of_engine / statistics.median(processor), 3),
        "processor_microseconds": round(1e6 * statistics.median(processor), 2),
        "engine_processor_microseconds": round(1e6 * of_engine, 2),
        "seconds_in_all": round(statistics.median(each.seconds for each in ended), 1),
        "seconds_for_few": round(few.seconds, 1),
        "file_bytes": _size(files[1]),
        "peak_bytes": max(each.peak_bytes for each in ended),
        "peak_bytes_for_few": few.peak_bytes,
    }


def _map(work: Work, file: Path) -> process_tree.Ended:
    bundle = HERE / ".cache" / "speed" / f"{work.bundle}.bundle"
    how = "--impute" if work.impute else "--no-impute"
    return process_tree.run(
        [COMMAND, "map", bundle, file, "-o", CACHE / work.output, how, "--overwrite"], {"PYTHONWARNINGS": "ignore"}
    )


def _said(output: str) -> tuple[int, float]:
    """Return how many cells the command says it has mapped, and how many a second."""
    mapped = re.search(r"Cells: +([0-9,]+) mapped", output)
    rate = re.search(r"Time: .*, ([0-9,]+) cells/s", output)
    assert mapped is not None, output
    assert rate is not None, output
    return int(mapped[1].replace(",", "")), float(rate[1].replace(",", ""))


def _engine(engine: Engine, work: Work, cells: AlignedCells) -> tuple[float, float]:
    """Return cells a second, and processor seconds a cell."""
    part = cells.rows(slice(0, N_IMPUTED)) if work.impute else cells
    started, before = time.perf_counter(), time.process_time()
    engine.run(part, work.options)
    return len(part) / (time.perf_counter() - started), (time.process_time() - before) / len(part)


def _aligned(query: ad.AnnData, with_proteins: bool) -> AlignedCells:
    """Return the query in the model's order, which is its own."""
    rna = sp.csr_matrix(query.X, dtype=np.float32)
    protein = np.ascontiguousarray(query.obsm[speed_inputs.PROTEINS].to_numpy(dtype=np.float32))
    protein *= np.float32(with_proteins)
    library = np.asarray(rna.sum(axis=1, dtype=np.float64), dtype=np.float32).ravel()
    return AlignedCells(rna, library, protein, np.repeat(protein.any(axis=1)[:, None], protein.shape[1], axis=1))


def _require_right(engine: Engine, work: Work, cells: AlignedCells, drawn: npt.NDArray[np.intp]) -> None:
    """A fast wrong answer fails: both ends of the output are what the engine says of these cells in memory."""
    for ends in (slice(0, N_CHECKED), slice(len(drawn) - N_CHECKED, len(drawn))):
        expected = engine.run(cells.rows(drawn[ends]), work.options)
        found = (_rows_of_table if work.output.endswith(".parquet") else _rows_of_copy)(engine, ends)
        names = np.array(engine.bundle.manifest.labels)
        assert np.mean(found.pop("guess") == names[expected.guess]) > 0.999
        for name, values in found.items():
            np.testing.assert_allclose(values, _first(expected, name), rtol=1e-4, atol=1e-4, err_msg=name)


def _first(mapped: MappedCells, name: str) -> npt.NDArray[np.generic]:
    """Return a measure of each cell, or the first column of what has several."""
    values = mapped.arrays()[name]
    return values if values.ndim == 1 else values[:, 0]


def _rows_of_table(engine: Engine, rows: slice) -> dict[str, npt.NDArray[Any]]:
    manifest = engine.bundle.manifest
    columns = {
        "guess": "totalanvi_guess",
        "confidence": "totalanvi_confidence",
        "novelty": "totalanvi_novelty",
        "probabilities": f"probability:{manifest.labels[0]}",
        "protein": f"protein:{manifest.proteins[0]}",
    }
    file = pq.ParquetFile(CACHE / "out.parquet")
    there = {name: column for name, column in columns.items() if column in file.schema_arrow.names}
    table = file.read([*there.values(), "cell_id"])
    found = table.slice(rows.start, rows.stop - rows.start)
    assert found["cell_id"].to_pylist() == [f"cell-{place:08d}" for place in range(rows.start, rows.stop)]
    return {name: found[column].to_numpy() for name, column in there.items()}


def _rows_of_copy(engine: Engine, rows: slice) -> dict[str, npt.NDArray[Any]]:
    with h5py.File(CACHE / "out.h5ad") as file:
        guess = file["obs/totalanvi_guess"]
        probabilities = file["obsm/totalanvi_probabilities"]
        return {
            "guess": guess["categories"].asstr()[:][guess["codes"][rows]],
            "confidence": file["obs/totalanvi_confidence"][rows],
            "novelty": file["obs/totalanvi_novelty"][rows],
            "latent": file["obsm/X_totalanvi"][rows, 0],
            "probabilities": probabilities[engine.bundle.manifest.labels[0]][rows],
        }


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else sum(part.stat().st_size for part in path.rglob("*"))


if __name__ == "__main__":
    typer.run(main)
