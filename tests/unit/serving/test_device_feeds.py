"""Rows that are sent as they are stored and made whole where they are computed: here on the CPU, by the same way."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from tests.support.toy_bundle import TOY, sign, toy_cells

from totalanvi.export.rows_graph import rows_graph
from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.graphs import ROWS
from totalanvi.serving.bundles.manifest_file import write_manifest
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.engine.cuda_memory import CudaMemory
from totalanvi.serving.engine.device_feeds import DeviceFeeds, device_block_sizes
from totalanvi.serving.engine.engine import Engine
from totalanvi.serving.engine.feeds import Block, blocks_of
from totalanvi.serving.engine.graphs import Graphs
from totalanvi.serving.engine.memory import HostMemory, on_host
from totalanvi.serving.engine.places import place
from totalanvi.serving.engine.sessions import open_sessions
from totalanvi.serving.engine.widths import widths_of
from totalanvi.serving.errors import BundleError, DeviceError
from totalanvi.serving.mapped import MapOptions, MappedCells


@pytest.fixture
def without_rows(toy_folder: Path, tmp_path: Path) -> Path:
    """A bundle from before rows were made whole where they are computed."""
    folder = Path(shutil.copytree(toy_folder, tmp_path / "old"))
    manifest = Bundle.open(folder).manifest
    (folder / ROWS.file).unlink()
    files = {name: record for name, record in manifest.files.items() if name != ROWS.file}
    write_manifest(folder, manifest.model_copy(update={"files": files}))
    return folder


def session_of(n_genes: int) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(rows_graph(n_genes).SerializeToString(), providers=["CPUExecutionProvider"])


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 30), st.floats(0, 1), st.integers(0, 5), st.integers(0, 1000))
def test_the_graph_makes_rows_whole(n_rows: int, n_genes: int, share: float, n_padding: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    dense = rng.geometric(0.3, size=(n_rows, n_genes)) * (rng.random((n_rows, n_genes)) < share)
    rna = sparse.csr_matrix(dense, dtype=np.float32)
    start = int(rng.integers(n_rows))

    places, counts = place(rna, slice(start, n_rows))
    library = np.zeros((n_rows - start + n_padding, 1), dtype=np.float32)
    found = session_of(n_genes).run(None, {"places": places, "counts": counts, "library": library})[0]

    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[: n_rows - start], dense[start:])
    assert not found[n_rows - start :].any()


def odd(rna: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return the same counts backwards, each in two halves, by 64-bit indices."""
    rows, columns, halves = (np.concatenate([p[::-1]] * 2) for p in (rna.tocoo().row, rna.indices, rna.data / 2))
    order = np.argsort(rows, kind="stable")
    pointers = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=rna.shape[0]))])
    other = sparse.csr_matrix(rna.shape, dtype=np.float32)
    other.data, other.indices, other.indptr = halves[order], columns[order].astype(np.int64), pointers.astype(np.int64)
    return other


def feeds_of(folder: Path, cells: AlignedCells) -> DeviceFeeds:
    bundle = Bundle.open(folder)
    opened, _ = open_sessions(bundle, "cpu", threads=1)
    memory = HostMemory()
    return DeviceFeeds(cells, len(TOY.batches), None, Graphs(opened, memory, widths_of(bundle)), memory)


@pytest.mark.parametrize("kind", ["usual", "odd", "empty", "old"])
def test_feeds_are_the_cells(toy_folder: Path, without_rows: Path, kind: str) -> None:
    cells, _ = toy_cells(150, measured_share=0.9)
    rna = {"odd": odd(cells.rna), "empty": sparse.csr_matrix(cells.rna.shape, dtype=np.float32)}.get(kind, cells.rna)
    cells = replace(cells, rna=rna)
    feeds = feeds_of(without_rows if kind == "old" else toy_folder, cells)
    for block in (*blocks_of(len(cells)), Block(slice(140, 150), 64), Block(slice(0, 8), 8)):
        fed = feeds.feed(block)
        feed = {name: on_host(value) for name, value in fed.items()}
        expected: dict[str, np.ndarray[Any, Any]] = {
            "rna": cells.rna.toarray(),
            "library": cells.library[:, None],
            "protein": cells.protein,
            "measured": cells.measured,
        }
        for name, values in expected.items():
            assert feed[name].shape == (block.size, values.shape[1])
            np.testing.assert_array_equal(feed[name][: block.n_rows], values[block.rows], err_msg=name)
            assert not feed[name][block.n_rows :].any()
        assert feed["batch"].shape == (block.size, len(TOY.batches))
        assert not feed["batch"].any()


def arrays_of(folder: Path, cells: AlignedCells, **options: Any) -> dict[str, np.ndarray[Any, Any]]:
    found: MappedCells = Engine(Bundle.open(folder), **{"provider": "cpu", "complete_graphs": True} | options).run(
        cells, MapOptions(samples=3)
    )
    return found.arrays()


def test_an_older_bundle_says_the_same(toy_folder: Path, without_rows: Path) -> None:
    cells, _ = toy_cells(700)
    found, expected = arrays_of(without_rows, cells), arrays_of(toy_folder, cells)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_several_blocks_at_a_time_say_the_same(toy_folder: Path) -> None:
    cells, _ = toy_cells(2_500)
    expected = arrays_of(toy_folder, cells, threads=1)
    for name, array in arrays_of(toy_folder, cells, threads=3).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-6, atol=1e-7, err_msg=name)


def test_a_graph_of_rows_with_another_interface_is_refused(toy_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(toy_folder, tmp_path / "spoiled"))
    (folder / ROWS.file).write_bytes(rows_graph(len(TOY.genes) + 1).SerializeToString())
    opened = Bundle.open(sign(folder))
    with pytest.raises(BundleError, match="expected 'rna' to be float32 with 60 columns, found"):
        Engine(opened, provider="cpu", complete_graphs=True)
    assert Engine(opened, provider="cpu").provider == "cpu"  # which has no use for it


@pytest.mark.parametrize("n_genes", [1, 160, 4_000, 36_000, 10_000_000])
def test_blocks_fit_into_a_device(n_genes: int) -> None:
    sizes = device_block_sizes(n_genes)
    assert sizes[0] == 8
    assert list(sizes) == sorted(set(sizes))
    assert sizes[-1] * n_genes <= 1 << 25 or sizes == (8,)
    # Where a count goes is said in 32 bits.
    assert sizes[-1] * n_genes < 1 << 31


def test_a_device_that_is_not_there_is_an_error() -> None:
    with pytest.raises(DeviceError, match="Expected the device 'cuda' to open, found that it failed"):
        CudaMemory()
