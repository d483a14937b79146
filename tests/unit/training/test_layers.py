"""Layers: dropout by cheap random numbers, and a one-hot code looked up instead of multiplied."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from totalanvi.training.network.layers import BatchNorm, Dropout, FullyConnected


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.9])
def test_dropout_keeps_its_share_and_the_mean(rate: float) -> None:
    torch.manual_seed(0)
    kept = Dropout(rate).train()(torch.ones(401, 499))  # no multiple of four
    assert abs(float((kept == 0).float().mean()) - rate) < 0.005
    assert torch.allclose(kept[kept > 0], torch.tensor(1 / (1 - rate)), rtol=1e-3)
    rows = (kept == 0).float()
    assert abs(float(torch.corrcoef(rows[:2])[0, 1])) < 0.2  # neighbouring cells lose different entries


def test_dropout_of_nearly_everything() -> None:
    assert torch.isfinite(Dropout(1 - 1e-6).train()(torch.ones(64))).all()


def test_dropout_depends_on_the_seed_alone_and_leaves_evaluation_alone() -> None:
    layer, x = Dropout(0.5), torch.randn(7, 9)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(layer.train()(x))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert torch.equal(layer.eval()(x), x)


@pytest.mark.parametrize("n_layers", [1, 2])
def test_a_code_is_what_its_one_hot_covariates_are(n_layers: int) -> None:
    stack = FullyConnected(3, 8, n_covariates=5, n_layers=n_layers)
    x, code, results = torch.randn(6, 3), torch.tensor([0, 4, 2, 2, 1, 4]), []
    for options in ({"covariates": F.one_hot(code, 5).float()}, {"code": code}):
        stack.zero_grad()
        mapped = stack(x, **options)
        mapped.square().sum().backward()
        results.append([mapped.detach(), *(weight.grad for weight in stack.parameters())])
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_batch_norm_takes_each_view_by_itself() -> None:
    torch.manual_seed(0)
    views = torch.randn(2, 50, 3) + torch.tensor([0.0, 5.0])[:, None, None]
    together, apart = BatchNorm(3), BatchNorm(3)
    normalised = together(views)
    torch.testing.assert_close(normalised.mean(dim=1), torch.zeros(2, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(normalised, torch.stack([apart(view) for view in views]))
    torch.testing.assert_close(together.running_mean, apart.running_mean)
    # What was learnt is the same for all of them.
    torch.testing.assert_close(together.eval()(views), together(views.flatten(0, 1)).view_as(views))
