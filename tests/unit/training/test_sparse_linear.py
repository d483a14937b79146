"""A linear map of sparse rows, against the dense one, values and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from totalanvi.training.data import SparseRows
from totalanvi.training.network.sparse_linear import SparseLinear


@pytest.mark.parametrize("density", [0.3, 0.0])
def test_sparse_and_dense_rows_map_alike_and_teach_alike(density: float) -> None:
    matrix = sp.random(7, 11, density, format="csr", random_state=0, dtype=np.float32)
    rows, layer = SparseRows.from_scipy(matrix), SparseLinear(11, 5)
    gradient = torch.randn(7, 5)
    results = []
    for x in (rows, rows.to_dense()):
        layer.weight.grad = None
        mapped = layer(x)
        mapped.backward(gradient)
        results.append((mapped.detach(), layer.weight.grad))
    for sparse, dense in zip(*results, strict=True):
        assert torch.allclose(sparse, dense, atol=1e-6)


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    matrix = sp.random(50, 30, 0.3, format="csr", random_state=1, dtype=np.float32)
    layer = SparseLinear(30, 8)
    together = layer(SparseRows.from_scipy(matrix))
    assert torch.equal(layer(SparseRows.from_scipy(matrix[3:4])), together[3:4])


def test_columns_become_rows() -> None:
    matrix = sp.random(4, 9, 0.3, format="csr", random_state=2, dtype=np.float32)
    rows = SparseRows.from_scipy(matrix)
    assert torch.equal(rows.transposed().to_dense(), rows.to_dense().t())


def test_weights_that_lie_otherwise_in_memory_map_alike() -> None:
    """Weights lie column by column; those that somebody assigned may not."""
    rows, layer = SparseRows.from_scipy(sp.random(5, 9, 0.4, format="csr", dtype=np.float32)), SparseLinear(9, 4)
    expected = layer(rows)
    layer.weight = torch.nn.Parameter(layer.weight.detach().contiguous())
    mapped = layer(rows)
    assert torch.equal(mapped, expected)
    mapped.sum().backward()
    assert layer.weight.grad.is_contiguous()
