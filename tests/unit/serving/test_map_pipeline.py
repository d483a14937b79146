"""Reading, scoring and writing go on at a time: what comes out does not show it, and an error on any side ends all."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pytest
from tests.support.command_line import CONSOLE_SCRIPT, hear_signals
from tests.support.files import contents, listing
from tests.support.mapping import PLUG_IN, map_to
from tests.support.queries import assert_same_annotations, refusal, write_anndata
from tests.support.toy_bundle import toy_query

from totalanvi.serving.alignment.align import Aligner
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.errors import OutputError, QueryError
from totalanvi.serving.mapped import MapOptions, MappedCells
from totalanvi.serving.mapping.local import LocalReference
from totalanvi.serving.mapping.scorer import score_blocks
from totalanvi.serving.outputs.result_spool import ResultSpool
from totalanvi.serving.queries.source import QuerySource
from totalanvi.serving.queries.tables import MemoryTable


class Watched:
    """The toy reference, which counts the blocks that are read and scored, and may fail."""

    def __init__(self, reference: LocalReference, fails_at: int | None = None) -> None:
        self.features, self.in_flight, self.info = reference.features, 1, reference.info
        self._reference, self._fails_at = reference, fails_at
        self.n_read = self.n_scored = 0

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        self.n_read += 1
        yield

    def score(self, cells: AlignedCells, options: MapOptions) -> MappedCells:
        self.n_scored += 1
        if self.n_scored == self._fails_at:
            raise QueryError("Expected a sunny day; found rain. Wait.")
        return self._reference.score(cells, options)


def blocks_of(reference: Watched, n_cells: int = 60) -> Any:
    source = QuerySource.from_anndata(MemoryTable(toy_query(n_cells)), guard=reference.guard)
    aligner = Aligner(reference.features, source.gene_names, source.protein_names)
    return score_blocks(reference, source, aligner, PLUG_IN, batch_size=2)


def assert_no_thread_is_left() -> None:
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith(("read_", "score_"))]


def compressed(n_cells: int, path: Path) -> Path:
    """Cells whose counts lie in pieces of 512 values."""
    query = toy_query(n_cells)
    query.write_h5ad(path)
    with h5py.File(path, "r+") as file:
        for name in ("data", "indices"):
            values = file["X"].pop(name)[:]
            file["X"].create_dataset(name, data=values, chunks=(512,), compression="gzip")
    return path


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_compressed_files_map_to_the_same_in_any_windows(reference: LocalReference, tmp_path: Path, size: int) -> None:
    query = compressed(50, tmp_path / "query.h5ad")
    map_to(reference, query, tmp_path / "out.h5ad", batch_size=size)
    found = anndata.read_h5ad(tmp_path / "out.h5ad")
    assert_same_annotations(found, reference.map(toy_query(50), samples=1))
    np.testing.assert_array_equal(found.X.toarray(), toy_query(50).X.toarray())


def test_a_slow_writer_is_not_overrun(reference: LocalReference) -> None:
    watched = Watched(reference)
    for n_written, _ in enumerate(blocks_of(watched)):
        time.sleep(0.02)
        assert watched.n_read <= n_written + 4
    assert watched.n_read == watched.n_scored == 30


def test_an_error_while_scoring_ends_reading_too(reference: LocalReference) -> None:
    watched = Watched(reference, fails_at=5)
    with pytest.raises(QueryError, match="sunny"):
        list(blocks_of(watched))
    assert watched.n_scored <= 7
    assert watched.n_read <= 8
    assert_no_thread_is_left()


def test_whoever_stops_asking_ends_the_work(reference: LocalReference) -> None:
    watched = Watched(reference)
    with contextlib.closing(blocks_of(watched)) as blocks:
        next(blocks)
    n_read = watched.n_read
    assert n_read <= 4
    assert_no_thread_is_left()
    assert watched.n_read == n_read


@pytest.mark.parametrize("name", ["out.h5ad", "out.parquet", "out"])
@pytest.mark.parametrize("damage", [b"nonsense", zlib.compress(b"short")], ids=["no gzip", "short"])
def test_damage_in_the_middle_of_a_compressed_file_leaves_nothing(
    reference: LocalReference, tmp_path: Path, name: str, damage: bytes
) -> None:
    query = compressed(200, tmp_path / "query.h5ad")
    with h5py.File(query, "r+") as file:
        file["X/data"].id.write_direct_chunk((1024,), damage)
    before = contents(tmp_path)
    act = lambda: map_to(reference, query, tmp_path / name, batch_size=5)  # noqa: E731
    refusal(QueryError, act, str(query), "Copy")
    assert contents(tmp_path) == before
    assert_no_thread_is_left()


def test_results_that_were_cut_short_are_no_results(reference: LocalReference, tmp_path: Path) -> None:
    _, mapped, _ = next(blocks_of(Watched(reference)))
    with ResultSpool(tmp_path / "results") as spool:
        mapped = mapped.rows(np.zeros(5000, dtype=int))
        spool.append(mapped)
        np.testing.assert_array_equal(spool.column("latent", 1), mapped.latent[:, 1])
        os.truncate(tmp_path / "results", 0)
        with pytest.raises(OSError, match="cut short"):
            spool.column("latent", 1)


def test_no_room_for_results_names_the_output(
    reference: LocalReference, query: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(spool: ResultSpool, mapped: MappedCells) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ResultSpool, "append", full)
    act = lambda: map_to(reference, query, tmp_path / "out.h5ad", batch_size=2)  # noqa: E731
    refusal(OutputError, act, "out.h5ad", "No space left", "Make room")
    assert listing(tmp_path) == ["query.h5ad"]
    assert_no_thread_is_left()


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)], ids=["interrupt", "kill"])
def test_a_signal_leaves_no_copy(toy_folder: Path, tmp_path: Path, sent: signal.Signals, code: int) -> None:
    """What other signals end, `test_cli` holds; it ends in the same way."""
    query = write_anndata(toy_query(20_000), tmp_path / "query.h5ad")
    arguments = ["map", str(toy_folder), str(query), "-o", str(tmp_path / "out.h5ad"), "--batch-size", "1"]
    with subprocess.Popen([CONSOLE_SCRIPT, *arguments], stderr=subprocess.PIPE, preexec_fn=hear_signals) as process:
        try:
            deadline = time.monotonic() + 60
            while not any(path.stat().st_size for path in tmp_path.glob(".out.h5ad.*/out.h5ad.results")):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            process.send_signal(sent)
            process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == code
    assert not (tmp_path / "out.h5ad").exists()
    if sent != signal.SIGKILL:
        assert listing(tmp_path) == ["query.h5ad"]
