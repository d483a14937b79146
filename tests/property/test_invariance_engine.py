"""A cell's results depend on that cell, the bundle and the options: not on order, chunks or the company it is in."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from tests.support.toy_bundle import toy_cells, write_toy_bundle

from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.engine.engine import Engine
from totalanvi.serving.mapped import MapOptions, MappedCells

N_CELLS = 700
"""More than one block of the engine, and not a whole number of them."""

options = st.builds(
    MapOptions,
    samples=st.sampled_from([1, 2, 5]),
    background=st.sampled_from(["exclude", "include"]),
    impute_as=st.sampled_from([None, "run1", "run2"]),
    coverage=st.sampled_from([0.5, 0.9, 0.99]),
    false_positive_rate=st.sampled_from([0.01, 0.3]),
    keep_unknown_labels=st.booleans(),
    certainty=st.sampled_from([0.5, 0.99]),
) | st.builds(MapOptions, impute=st.just(False), coverage=st.sampled_from([0.5, 0.9, 0.99]))
few = settings(max_examples=15, deadline=None)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine(Bundle.open(write_toy_bundle(tmp_path_factory.mktemp("invariance") / "toy")), provider="cpu")


@pytest.fixture(scope="module")
def cells() -> AlignedCells:
    """Cells of the reference's kind, among them an empty one, a single count, and one of a million counts a gene."""
    cells, _ = toy_cells(N_CELLS)
    rna = cells.rna.toarray()
    rna[[3, 600]] = 0
    rna[[4, 601]] = np.eye(rna.shape[1], dtype=np.float32)[5]
    rna[[5, 602]] = 1e6
    # Of the cells with proteins, every other has a part of the panel.
    measured = cells.measured.copy()
    measured[: N_CELLS // 2 : 2, ::2] = False
    return AlignedCells(sparse.csr_matrix(rna), rna.sum(axis=1), np.where(measured, cells.protein, 0), measured)


def join(*parts: AlignedCells) -> AlignedCells:
    return AlignedCells(
        sparse.vstack([part.rna for part in parts], format="csr"),
        np.concatenate([part.library for part in parts]),
        np.concatenate([part.protein for part in parts]),
        np.concatenate([part.measured for part in parts]),
    )


def assert_same(found: MappedCells, expected: MappedCells) -> None:
    assert found.arrays().keys() == expected.arrays().keys()
    for name, array in expected.arrays().items():
        if array.dtype.kind in "ib":
            np.testing.assert_array_equal(found.arrays()[name], array, err_msg=name)
            continue
        # The absolute part is for numbers near zero, such as a coordinate that is a difference of larger ones.
        np.testing.assert_allclose(
            found.arrays()[name], array, rtol=1e-6, atol=1e-6 * np.nanmax(np.abs(array)), err_msg=name
        )


@few
@given(options=options, seed=st.integers(0, 2**32 - 1))
def test_order(engine: Engine, cells: AlignedCells, options: MapOptions, seed: int) -> None:
    order: npt.NDArray[np.intp] = np.random.default_rng(seed).permutation(N_CELLS)
    assert_same(engine.run(cells.rows(order), options), engine.run(cells, options).rows(order))


@few
@given(options=options, cuts=st.lists(st.integers(0, N_CELLS), max_size=6))
def test_chunks(engine: Engine, cells: AlignedCells, options: MapOptions, cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), N_CELLS]
    parts = [engine.run(cells.rows(slice(a, b)), options) for a, b in pairwise(edges)]
    assert_same(MappedCells.concatenate(parts), engine.run(cells, options))


@few
@given(
    options=options,
    row=st.integers(0, N_CELLS - 1),
    n_before=st.integers(0, 80),
    n_after=st.integers(0, 80),
    seed=st.integers(0, 1_000),
    measured_share=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_company(engine: Engine, cells: AlignedCells, options: MapOptions, row: int, **company: Any) -> None:
    n_before, n_after = company["n_before"], company["n_after"]
    others, _ = toy_cells(n_before + n_after, seed=company["seed"], measured_share=company["measured_share"])
    cell = cells.rows(slice(row, row + 1))
    mixed = join(others.rows(slice(0, n_before)), cell, others.rows(slice(n_before, n_before + n_after)))
    assert_same(engine.run(mixed, options).rows(slice(n_before, n_before + 1)), engine.run(cell, options))


@few
@given(options=options, row=st.integers(0, N_CELLS - 1))
def test_copies_of_one_cell_are_alike(engine: Engine, cells: AlignedCells, options: MapOptions, row: int) -> None:
    copies = engine.run(cells.rows(np.full(70, row)), options)
    alone = engine.run(cells.rows(slice(row, row + 1)), options)
    assert_same(copies, alone.rows(np.zeros(70, dtype=int)))


@few
@given(options=options, rows=st.lists(st.integers(0, N_CELLS - 1), min_size=1, max_size=20))
def test_threads(engine: Engine, cells: AlignedCells, options: MapOptions, rows: list[int]) -> None:
    one = Engine(engine.bundle, provider="cpu", threads=1)
    taken = cells.rows(np.array(rows))
    assert_same(one.run(taken, options), engine.run(taken, options))
