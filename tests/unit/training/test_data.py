"""Sparse rows and mini-batches: nothing lost, nothing in another order than told."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from tests.support.reference_cells import draw_cells

from totalanvi.training.data import CellBatch, Cells, SparseRows
from totalanvi.training.loaders import cell_loader


@pytest.fixture
def matrix() -> sp.csr_matrix:
    dense = np.array([[0, 1, 0], [0, 0, 0], [2, 0, 3], [0, 0, 0]], dtype=np.float32)
    return sp.csr_matrix(dense)


def test_sparse_rows_are_the_matrix(matrix: sp.csr_matrix) -> None:
    rows = SparseRows.from_scipy(matrix)
    assert torch.equal(rows.to_dense(), torch.from_numpy(matrix.toarray()))
    assert rows.n_rows == 4
    assert rows.rows.tolist() == [0, 2, 2]
    assert rows.sum_per_row(rows.values).tolist() == [1, 0, 5, 0]
    assert rows.gather(torch.arange(12.0).view(4, 3)).tolist() == [1, 6, 8]
    doubled = rows.with_values(2 * rows.values)
    assert torch.equal(doubled.to_dense(), 2 * rows.to_dense())
    assert torch.equal(rows.to("cpu").to_dense(), rows.to_dense())


def test_sums_have_gradients(matrix: sp.csr_matrix) -> None:
    rows = SparseRows.from_scipy(matrix)
    values = rows.values.clone().requires_grad_()
    weight = torch.tensor([2.0, 3.0, 5.0, 7.0])
    (rows.sum_per_row(values) * weight).sum().backward()
    assert values.grad.tolist() == [2, 5, 5]


def gathered(cells: Cells, **options: object) -> tuple[list[int], list[CellBatch]]:
    """Which cells came in which order, told by a batch code of their own."""
    numbered = Cells(**{**cells.__dict__, "batch": np.arange(len(cells))})
    batches = list(cell_loader(numbered, **options))
    return torch.cat([batch.batch for batch in batches]).tolist(), batches


def test_a_loader_keeps_order_unless_told_otherwise() -> None:
    cells = draw_cells(n_cells=25)
    order, batches = gathered(cells, batch_size=10)
    assert order == list(range(25))
    assert [batch.n_cells for batch in batches] == [10, 10, 5]
    dense = torch.cat([batch.rna.to_dense() for batch in batches])
    assert torch.equal(dense, torch.from_numpy(cells.rna.toarray()))
    assert torch.equal(torch.cat([batch.protein for batch in batches]), torch.from_numpy(cells.protein))
    assert torch.equal(batches[0].library.squeeze(-1), dense[:10].sum(dim=1))


def test_a_loader_serves_the_cells_asked_for() -> None:
    order, _ = gathered(draw_cells(n_cells=25), indices=np.array([7, 3, 20]), batch_size=2)
    assert order == [7, 3, 20]
