"""Over the ranges that training meets, the count models are SciPy's, whatever is stored and whatever is not."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import nbinom

from totalanvi.training.data import SparseRows
from totalanvi.training.network.distributions import (
    log_negative_binomial,
    log_negative_binomial_rows,
    log_protein_mixture,
)

counts = st.integers(0, 50_000)
log_mean = st.floats(-12, 11)
log_theta = st.floats(-5, 6)
few = settings(max_examples=100, deadline=None)


def log_nb(count: int, log_mean: float, log_theta: float) -> float:
    theta, mean = np.exp(log_theta), np.exp(log_mean)
    return float(nbinom.logpmf(count, theta, theta / (theta + mean)))


def double(*values: float) -> list[torch.Tensor]:
    return [torch.tensor(value, dtype=torch.float64) for value in values]


@few
@given(counts, log_mean, log_theta)
def test_negative_binomial(count: int, log_mean: float, log_theta: float) -> None:
    expected = log_nb(count, log_mean, log_theta)
    assert np.isclose(log_negative_binomial(*double(count, log_mean, log_theta)), expected, rtol=1e-6, atol=1e-6)
    single = log_negative_binomial(*(value.float() for value in double(count, log_mean, log_theta)))
    # lgamma of a large count loses digits in single precision, in proportion to its size.
    assert np.isclose(single, expected, rtol=1e-3, atol=1e-3 + 2e-6 * count * max(1.0, abs(log_mean)))


@few
@given(counts, log_mean, st.floats(0, 6), log_theta, st.floats(-30, 30))
def test_a_mixture_lies_between_its_components(
    count: int, log_background: float, log_ratio: float, log_theta: float, logits: float
) -> None:
    mixed = log_protein_mixture(*double(count, log_background, log_background + log_ratio, log_theta, logits))
    parts = sorted([log_nb(count, log_background, log_theta), log_nb(count, log_background + log_ratio, log_theta)])
    assert parts[0] - 1e-6 * (1 + abs(parts[0])) <= float(mixed) <= parts[1] + 1e-6 * (1 + abs(parts[1]))


@few
@given(
    st.lists(st.lists(st.integers(0, 30), min_size=3, max_size=3), min_size=1, max_size=5),
    st.lists(st.booleans(), min_size=15, max_size=15),
    log_theta,
)
def test_what_is_stored_does_not_matter(table: list[list[int]], stored: list[bool], log_theta: float) -> None:
    """Zeros may be stored or not: the sum over a cell's genes is the same."""
    dense = np.array(table, dtype=np.float32)
    keep = (dense > 0) | np.array(stored)[: dense.size].reshape(dense.shape)
    row, column = np.nonzero(keep)
    starts = np.concatenate([[0], np.cumsum(keep.sum(axis=1))])
    rows = SparseRows.from_scipy(sp.csr_matrix((dense[row, column], column, starts), shape=dense.shape))
    log_mean = torch.linspace(-2, 3, dense.size).reshape(dense.shape)
    theta = torch.full((3,), log_theta)
    expected = [
        sum(log_nb(int(count), float(m), log_theta) for count, m in zip(counts, means, strict=True))
        for counts, means in zip(dense, log_mean, strict=True)
    ]
    assert np.allclose(log_negative_binomial_rows(rows, log_mean, theta), expected, rtol=1e-3, atol=1e-3)
    assert torch.equal(rows.to_dense(), torch.from_numpy(dense))
