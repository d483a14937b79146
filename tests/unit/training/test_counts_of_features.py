"""The last layer and its likelihood in one piece, against layer and likelihood one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor

from totalanvi.training.data import SparseRows
from totalanvi.training.network import counts_of_features
from totalanvi.training.network.counts_of_features import begin, negative_log_probability_of_features
from totalanvi.training.network.softmax_counts import log_negative_binomial_of_shares

N_CELLS, N_GENES, N_FEATURES = 37, 11, 4
SAME, DIFFERENT = torch.full((N_CELLS,), 0.3, dtype=torch.float64), torch.linspace(0.5, 2.0, N_CELLS).double()


@pytest.fixture
def rows() -> SparseRows:
    """Counts with an empty row, an empty column and a huge count."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(2.0, (N_CELLS, N_GENES)) * (rng.random((N_CELLS, N_GENES)) < 0.4)
    counts[2], counts[:, 5], counts[4, 3] = 0, 0, 4_000
    rows = SparseRows.from_scipy(sp.csr_matrix(counts))
    return rows.with_values(rows.values.double())


@pytest.fixture
def beside() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def leaves() -> list[Tensor]:
    """Features, weights, biases, log sizes and log dispersions."""
    torch.manual_seed(1)
    shapes = ((N_CELLS, N_FEATURES), (N_GENES, N_FEATURES), (N_GENES,), (N_CELLS, 1), (N_GENES,))
    drawn = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    drawn[3] += 6.0
    return [each.requires_grad_() for each in drawn]


def one_after_the_other(rows: SparseRows, inputs: list[Tensor]) -> Tensor:
    features, weight, bias, log_size, log_theta = inputs
    return -log_negative_binomial_of_shares(rows, F.linear(features, weight, bias), log_size, log_theta)


@pytest.mark.parametrize("most_entries", [2**19, 16 * N_GENES], ids=["whole halves", "blocks"])
@pytest.mark.parametrize("weights", [SAME, DIFFERENT], ids=["averaged", "weighted"])
@pytest.mark.parametrize("threads", [1, 2])
def test_values_and_gradients_are_those_of_layer_and_likelihood(
    rows: SparseRows,
    beside: Executor,
    monkeypatch: pytest.MonkeyPatch,
    most_entries: int,
    weights: Tensor,
    threads: int,
) -> None:
    monkeypatch.setattr(counts_of_features, "_MOST_ENTRIES", most_entries)
    ours, theirs = leaves(), leaves()
    expected = one_after_the_other(rows, theirs)
    result = negative_log_probability_of_features(rows, *ours, begin(rows, ours[4], beside) if threads == 2 else None)
    (weights * result).sum().backward()
    (weights * expected).sum().backward()
    torch.testing.assert_close(result, expected, rtol=1e-10, atol=0)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        torch.testing.assert_close(negative_log_probability_of_features(rows, *ours), expected, rtol=1e-10, atol=0)


def test_two_threads_say_what_one_does_bit_by_bit(rows: SparseRows, beside: Executor) -> None:
    alone, together = leaves(), leaves()
    for inputs, executor in ((alone, None), (together, beside)):
        negative_log_probability_of_features(
            rows, *inputs, executor and begin(rows, inputs[4], executor)
        ).mean().backward()
    assert all(torch.equal(one.grad, other.grad) for one, other in zip(alone, together, strict=True))


def test_a_result_is_no_number_until_its_gradient_is_asked_for(rows: SparseRows, beside: Executor) -> None:
    """Whoever reads it too early cannot mistake it for one."""
    may_begin = Event()
    beside.submit(may_begin.wait)
    inputs = leaves()
    result = negative_log_probability_of_features(rows, *inputs, begin(rows, inputs[4], beside))
    assert result.isnan().all()
    may_begin.set()
    result.sum().backward()
    torch.testing.assert_close(result, one_after_the_other(rows, inputs), rtol=1e-10, atol=0)


def test_gradients_are_the_same_when_they_are_asked_for_again(rows: SparseRows) -> None:
    inputs = leaves()
    total = negative_log_probability_of_features(rows, *inputs).mean()
    first, second = (torch.autograd.grad(total, inputs, retain_graph=True) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_a_frozen_layer_passes_the_gradient_on(rows: SparseRows) -> None:
    ours, theirs = leaves(), leaves()
    for inputs in (ours, theirs):
        for frozen in inputs[1:3]:
            frozen.requires_grad_(False)
    negative_log_probability_of_features(rows, *ours).sum().backward()
    one_after_the_other(rows, theirs).sum().backward()
    torch.testing.assert_close(ours[0].grad, theirs[0].grad)
    torch.testing.assert_close(ours[4].grad, theirs[4].grad)
    assert ours[1].grad is None


def test_what_fails_beside_fails_where_it_is_asked_for(rows: SparseRows, beside: Executor) -> None:
    inputs = leaves()
    broken = rows.with_values(rows.values[:-1])
    result = negative_log_probability_of_features(broken, *inputs, begin(broken, inputs[4], beside))
    with pytest.raises(RuntimeError):
        result.sum().backward()
