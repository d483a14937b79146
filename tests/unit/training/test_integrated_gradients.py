"""Integrated gradients against functions whose integrals are known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from totalanvi.training.results.integrated_gradients import Paths, integrated_gradients

N_POINTS = 5


def attribute(
    function: Callable[..., Tensor],
    counts: Tensor,
    baseline: Tensor,
    *beside: Tensor | None,
    batch_size: int = 64,
    is_complete: bool = True,
) -> Tensor:
    """Attributions of a function of (points, features) that stands as the second of two logits."""

    def logits(x: Tensor, *rest: Tensor) -> Tensor:
        values = function(x, *rest)
        return torch.stack((-7.0 * values, values), dim=-1)

    target = torch.ones(len(counts), dtype=torch.long)
    found = integrated_gradients(Paths(logits, counts, baseline, target, beside), N_POINTS, batch_size)
    assert found.is_complete.eq(is_complete).all()
    return found.values


@pytest.fixture
def counts() -> Tensor:
    return torch.poisson(torch.full((20, 3), 40.0), generator=torch.Generator().manual_seed(0))


def test_of_a_weighted_sum_each_feature_has_its_own_part(counts: Tensor) -> None:
    weights, baseline = torch.tensor([1.0, -2.0, 0.0]), torch.tensor([3.0, 0.0, 5.0])
    found = attribute(lambda x: x @ weights, counts, baseline)
    assert torch.allclose(found, weights * (counts - baseline), rtol=1e-4)


def test_a_product_is_shared_evenly(counts: Tensor) -> None:
    found = attribute(lambda x: x[:, 0] * x[:, 1], counts, torch.zeros(3))
    half = counts[:, 0] * counts[:, 1] / 2
    assert torch.allclose(found, torch.stack((half, half, torch.zeros(20)), dim=-1), rtol=1e-4)


def test_steep_functions_and_jumping_gradients(counts: Tensor) -> None:
    """The first feature rises in a millionth of the path, the second counts from 10 on: a sum, known term by term."""

    def function(x: Tensor) -> Tensor:
        return torch.log1p(1e4 * x[:, 0]) + torch.relu(x[:, 1] - 10.0)

    found = attribute(function, counts, torch.zeros(3))
    expected = torch.stack((torch.log1p(1e4 * counts[:, 0]), torch.relu(counts[:, 1] - 10.0), torch.zeros(20)), dim=-1)
    assert (found - expected).abs().max(dim=1).values.lt(0.01 * expected.sum(dim=1)).all()


def test_what_stands_beside_the_counts_is_that_of_the_cell(counts: Tensor) -> None:
    beside = torch.arange(20.0)
    found = attribute(lambda x, factor, _: factor * x[:, 2], counts, torch.zeros(3), beside, None, batch_size=10)
    assert torch.allclose(found[:, 2], beside * counts[:, 2], rtol=1e-4)


def test_a_cell_that_is_the_baseline_has_nothing(counts: Tensor) -> None:
    baseline = counts[4].clone()
    found = attribute(lambda x: torch.relu(x - 30.0).sum(dim=-1), counts, baseline)
    assert torch.equal(found[4], torch.zeros(3))
    assert found.abs().sum(dim=1).gt(0).sum() == 19


def test_no_value_is_no_endless_refinement(counts: Tensor) -> None:
    found = attribute(lambda x: x[:, 0] * float("nan"), counts, torch.zeros(3), is_complete=False)
    assert found[:, 0].isnan().all()


def test_a_jump_that_no_gradient_sees_is_not_complete(counts: Tensor) -> None:
    attribute(lambda x: x[:, 0] + 100.0 * (x[:, 1] > 7.0), counts, torch.zeros(3), is_complete=False)


def test_rounding_is_no_endless_refinement(counts: Tensor) -> None:
    """A gain of nearly nothing between two large values: float32 cannot tell where it comes from."""
    n_points = 0

    def function(x: Tensor) -> Tensor:
        nonlocal n_points
        n_points += len(x)
        return 1e4 + 1e-3 * torch.sin(x).sum(dim=-1)

    assert attribute(function, counts, torch.zeros(3)).isfinite().all()
    assert n_points < 20 * 4 * (N_POINTS + 2) * 3
