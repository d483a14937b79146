"""Adam in two parts, against torch's: the same steps, whoever does them and however weights lie in memory."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW

from totalanvi.training.fitting.shared_adam import SharedAdam

OPTIONS = {"lr": 0.03, "eps": 0.01, "weight_decay": 0.1}
LIMIT = 2.0


@pytest.fixture(params=[False, True], ids=["alone", "two threads"])
def beside(request: pytest.FixtureRequest) -> Iterator[Executor | None]:
    with ThreadPoolExecutor(1) as executor:
        yield executor if request.param else None


def weights() -> list[nn.Parameter]:
    """Matrices, one of which lies column by column, a vector, and one that never has a gradient."""
    torch.manual_seed(0)
    drawn = [torch.randn(7, 5), torch.randn(6, 4).t(), torch.randn(3), torch.randn(2, 2)]
    return [nn.Parameter(each) for each in drawn]


def groups(of: list[nn.Parameter]) -> list[dict[str, Any]]:
    return [{"params": of[:2]}, {"params": of[2:], "lr": 0.3, "weight_decay": 0.0}]


def give_gradients(of: list[nn.Parameter], step: int) -> None:
    for i, weight in enumerate(of[:3]):
        drawn = torch.randn(weight.shape, generator=torch.Generator().manual_seed(10 * step + i))
        weight.grad = torch.empty_like(weight).copy_(drawn) if step < 3 else 0.01 * drawn


def train(optimizer: torch.optim.Optimizer, of: list[nn.Parameter], steps: range) -> list[Tensor]:
    for step in steps:
        give_gradients(of, step)
        if isinstance(optimizer, SharedAdam):
            optimizer.limit_norm(LIMIT)
        else:
            nn.utils.clip_grad_norm_(of, LIMIT)
        optimizer.step()
    return [weight.detach().clone() for weight in of]


@pytest.mark.parametrize("kind", [Adam, AdamW])
def test_steps_are_those_of_torch(beside: Executor | None, kind: type[Adam]) -> None:
    ours, theirs = weights(), weights()
    shared = SharedAdam(groups(ours), beside, decoupled_weight_decay=kind is AdamW, **OPTIONS)
    plain = kind(groups(theirs), fused=True, **OPTIONS)  # type: ignore[arg-type]
    for one, other in zip(train(shared, ours, range(5)), train(plain, theirs, range(5)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)
    assert [shared.state[weight]["step"].item() for weight in ours[:3]] == [5.0] * 3
    assert torch.equal(ours[3], weights()[3])


def test_two_threads_do_what_one_does_bit_by_bit() -> None:
    alone, together = weights(), weights()
    expected = train(SharedAdam(groups(alone), **OPTIONS), alone, range(5))
    with ThreadPoolExecutor(1) as executor:
        found = train(SharedAdam(groups(together), executor, **OPTIONS), together, range(5))
    assert all(map(torch.equal, found, expected))


def test_a_run_goes_on_from_its_state(beside: Executor | None) -> None:
    through, first = weights(), weights()
    expected = train(SharedAdam(groups(through), beside, **OPTIONS), through, range(5))
    interrupted = SharedAdam(groups(first), beside, **OPTIONS)
    second = [nn.Parameter(weight.clone()) for weight in train(interrupted, first, range(2))]
    resumed = SharedAdam(groups(second), beside, **OPTIONS)
    resumed.load_state_dict(interrupted.state_dict())
    assert all(map(torch.equal, train(resumed, second, range(2, 5)), expected))


def test_rates_may_change_between_steps(beside: Executor | None) -> None:
    ours = weights()
    optimizer = SharedAdam(groups(ours), beside, **OPTIONS)
    before = train(optimizer, ours, range(1))
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    assert all(map(torch.equal, train(optimizer, ours, range(1, 2)), before))


def test_weights_of_which_some_have_a_gradient_now_and_then() -> None:
    ours = weights()
    optimizer = SharedAdam(groups(ours), **OPTIONS)
    train(optimizer, ours, range(2))
    optimizer.zero_grad()
    ours[0].grad = torch.ones_like(ours[0])
    optimizer.step()
    train(optimizer, ours, range(1))
    assert [optimizer.state[weight]["step"].item() for weight in ours[:3]] == [4.0, 3.0, 3.0]


def test_what_fails_beside_fails_here() -> None:
    ours = weights()
    with ThreadPoolExecutor(1) as executor:
        optimizer = SharedAdam(groups(ours), executor, **OPTIONS)
        ours[0].grad = torch.ones_like(ours[0]).to_sparse()
        with pytest.raises(RuntimeError, match="sparse"):
            optimizer.step()
