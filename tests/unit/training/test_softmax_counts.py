"""The likelihood of counts whose means are shares, against the general one, values and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import Tensor

from totalanvi.training.data import SparseRows
from totalanvi.training.network.distributions import log_negative_binomial_rows
from totalanvi.training.network.softmax_counts import log_negative_binomial_of_shares

N_CELLS, N_GENES = 6, 9


@pytest.fixture
def rows() -> SparseRows:
    """Counts with an empty row, an empty column, a stored zero and a huge count."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(2.0, (N_CELLS, N_GENES)) * (rng.random((N_CELLS, N_GENES)) < 0.4)
    counts[2], counts[:, 5], counts[4, 3] = 0, 0, 4_000
    rows = SparseRows.from_scipy(sp.csr_matrix(counts))
    values = rows.values.double()
    values[0] = 0
    return rows.with_values(values)


def leaves(dtype: torch.dtype = torch.float64, spread: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, log sizes and log dispersions."""
    torch.manual_seed(1)
    shapes = ((N_CELLS, N_GENES), (N_CELLS, 1), (N_GENES,))
    logits, log_size, log_theta = (torch.randn(shape, dtype=torch.float64) for shape in shapes)
    drawn = (spread * logits, log_size + 6.0, log_theta)
    return tuple(value.to(dtype).requires_grad_() for value in drawn)  # type: ignore[return-value]


def test_values_are_those_of_the_general_formula(rows: SparseRows) -> None:
    logits, log_size, log_theta = leaves()
    expected = log_negative_binomial_rows(rows, log_size + logits.log_softmax(dim=-1), log_theta)
    assert torch.allclose(log_negative_binomial_of_shares(rows, logits, log_size, log_theta), expected, rtol=1e-12)


def test_gradients_are_those_of_the_general_formula(rows: SparseRows) -> None:
    weight = torch.linspace(0.5, 2.0, N_CELLS, dtype=torch.float64)  # so that rows cannot be mixed up
    ours, theirs = leaves(), leaves()
    (weight * log_negative_binomial_of_shares(rows, *ours)).sum().backward()
    log_mean = theirs[1] + theirs[0].log_softmax(dim=-1)
    (weight * log_negative_binomial_rows(rows, log_mean, theirs[2])).sum().backward()
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-10)


def test_gradients_are_the_same_when_they_are_asked_for_again(rows: SparseRows) -> None:
    parameters = leaves()
    total = log_negative_binomial_of_shares(rows, *parameters).sum()
    first, second = (torch.autograd.grad(total, parameters, retain_graph=True) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_shares_too_small_for_single_precision_stay_finite(rows: SparseRows) -> None:
    """A gene that is counted and whose share rounds to zero: its logarithm does not."""
    single = rows.with_values(rows.values.float())
    parameters = leaves(torch.float32, spread=200.0)
    value = log_negative_binomial_of_shares(single, *parameters)
    assert (parameters[0].softmax(dim=-1) == 0).any()
    expected = log_negative_binomial_of_shares(rows, *(parameter.double() for parameter in parameters))
    assert torch.allclose(value.double(), expected, rtol=1e-4)
    assert all(torch.isfinite(gradient).all() for gradient in torch.autograd.grad(value.sum(), parameters))
