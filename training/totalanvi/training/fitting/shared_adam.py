"""Adam on a CPU, whose step is done by two threads where there are two, and which takes weights as they lie in memory.

Half of the weights are the business of each thread: their share of the gradient's norm, its limit and their step. Who
computes does not matter to the numbers, so that two threads learn what one does.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.adam import adam

__all__ = ["SharedAdam"]

T = TypeVar("T")


class SharedAdam(Adam):
    """Adam, or AdamW, of parameters in host memory.

    Parameters
    ----------
    groups
        Parameters, in groups as torch's optimisers take them.
    beside
        A thread that does half of it, where there is one.
    options
        Options of `torch.optim.Adam`; AdamW is Adam with ``decoupled_weight_decay``.

    Examples
    --------
    >>> weight = nn.Parameter(torch.ones(3))
    >>> optimizer = SharedAdam([{"params": [weight]}], lr=0.1)
    >>> (3 * weight).sum().backward()
    >>> optimizer.limit_norm(1.0)
    >>> weight.grad.norm()
    tensor(1.0000)
    """

    def __init__(self, groups: list[dict[str, Any]], beside: Executor | None = None, **options: Any):
        super().__init__(groups, fused=True, **options)
        self._beside = beside
        self._limit: Tensor | None = None
        """What gradients are still to be multiplied by, if anything."""

    @torch.no_grad()
    def limit_norm(self, most: float) -> None:
        """Limit the norm of the gradient; where two threads share the step, it is scaled down in the step.

        Parameters
        ----------
        most
            The largest norm.
        """
        norms = self._in_two(lambda part: nn.utils.get_total_norm(_gradients(part)))
        factor = (most / (nn.utils.get_total_norm(norms) + 1e-6)).clamp(max=1.0)
        if self._beside is None:
            torch._foreach_mul_(_gradients(self._groups_of(0)) + _gradients(self._groups_of(1)), factor)
        else:
            self._limit = factor

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Do a step, after ``closure`` where it is given; return what that returns."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        self._in_two(self._step)
        self._limit = None
        return loss

    def _in_two(self, of_groups: Callable[[list[dict[str, Any]]], T]) -> list[T]:
        """Apply a function to both parts of the parameters; the first one beside, where there is a thread."""
        first, second = self._groups_of(0), self._groups_of(1)
        if self._beside is None:
            return [of_groups(first), of_groups(second)]
        elsewhere = self._beside.submit(of_groups, first)
        here = of_groups(second)
        return [elsewhere.result(), here]

    def _groups_of(self, part: int) -> list[dict[str, Any]]:
        """Groups that hold one part of the parameters each; the largest go to whichever part has fewer numbers."""
        sizes, parts = [0, 0], {}
        weights = [weight for group in self.param_groups for weight in group["params"]]
        for weight in sorted(weights, key=Tensor.numel, reverse=True):
            parts[weight] = int(sizes[1] < sizes[0])
            sizes[parts[weight]] += weight.numel()
        return [group | {"params": [p for p in group["params"] if parts[p] == part]} for group in self.param_groups]

    @torch.no_grad()
    def _step(self, groups: list[dict[str, Any]]) -> None:
        for group in groups:
            lists: list[list[Tensor]] = [[] for _ in range(6)]
            self._init_group(group, *lists)
            if not lists[0]:
                continue
            if self._limit is not None:
                torch._foreach_mul_(lists[1], self._limit)
            beta1, beta2 = group["betas"]
            adam(
                *_row_by_row(lists),
                amsgrad=group["amsgrad"],
                beta1=beta1,
                beta2=beta2,
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=group["maximize"],
                fused=True,
                grad_scale=getattr(self, "grad_scale", None),
                found_inf=getattr(self, "found_inf", None),
                decoupled_weight_decay=group["decoupled_weight_decay"],
            )


def _gradients(groups: list[dict[str, Any]]) -> list[Tensor]:
    return [weight.grad for group in groups for weight in group["params"] if weight.grad is not None]


def _row_by_row(lists: list[list[Tensor]]) -> list[list[Tensor]]:
    """Weights, gradients, moments and counts of steps, matrices that lie column by column transposed.

    The kernel copies what does not lie row by row, there and back.
    """
    across = [weight.dim() == 2 and not weight.is_contiguous() and weight.t().is_contiguous() for weight in lists[0]]
    *of_weights, steps = lists
    turned = [
        [each.t() if turn else each for each, turn in zip(of_weight, across, strict=True)] if of_weight else []
        for of_weight in of_weights
    ]
    return [*turned, steps]
