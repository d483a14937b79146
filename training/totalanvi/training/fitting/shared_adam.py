"""Adam on a CPU, whose step is done by two threads where there are two, and which takes weights as they lie in memory.

Half of the weights are the business of each thread: their share of the gradient's norm, its limit and their step. Who
computes does not matter to the numbers, so that two threads learn what one does.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Adam

__all__ = ["SharedAdam"]

T = TypeVar("T")
Part: TypeAlias = list[list[Tensor]]
"""Some of the parameters of each group."""


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
        self._parts = _in_two(self.param_groups)
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
        norms = self._of_both(lambda part: nn.utils.get_total_norm(_gradients(part)))
        factor = (most / (nn.utils.get_total_norm(norms) + 1e-6)).clamp(max=1.0)
        if self._beside is None:
            torch._foreach_mul_([gradient for part in self._parts for gradient in _gradients(part)], factor)
        else:
            self._limit = factor

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Do a step, after ``closure`` where it is given; return what that returns."""
        if getattr(self, "grad_scale", None) is not None:  # half precision: torch may have to leave the step out
            return super().step(closure)
        loss = None if closure is None else torch.enable_grad()(closure)()
        self._of_both(self._step)
        self._limit = None
        return loss

    def _of_both(self, of_part: Callable[[Part], T]) -> list[T]:
        """Apply a function to both parts of the parameters; to the first one beside, where there is a thread."""
        first, second = self._parts
        if self._beside is None:
            return [of_part(first), of_part(second)]
        elsewhere = self._beside.submit(of_part, first)
        here = of_part(second)
        return [elsewhere.result(), here]

    @torch.no_grad()
    def _step(self, part: Part) -> None:
        for group, weights in zip(self.param_groups, part, strict=True):
            lists: list[list[Tensor]] = [[] for _ in range(6)]
            self._init_group(group | {"params": weights}, *lists)  # type: ignore[no-untyped-call]
            trained = lists[0]
            if not trained:
                continue
            if self._limit is not None:
                torch._foreach_mul_(lists[1], self._limit)
            self._count(trained, lists.pop())
            row_by_row, gradients, means, squares, largest = _row_by_row(lists)
            step = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
            step(
                row_by_row,
                gradients,
                means,
                squares,
                largest,
                [self.state[weight]["step"] for weight in trained],
                amsgrad=group["amsgrad"],
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=group["maximize"],
            )

    def _count(self, weights: list[Tensor], steps: list[Tensor]) -> None:
        """Count a step of each weight; numbers that lie side by side are counted up in one go."""
        together = steps[0]._base
        if together is None or len(together) != len(steps) or any(step._base is not together for step in steps):
            together = torch.stack(steps)
            for weight, step in zip(weights, together.unbind(), strict=True):
                self.state[weight]["step"] = step
        together.add_(1)


def _in_two(groups: list[dict[str, Any]]) -> tuple[Part, Part]:
    """Share parameters out: the largest to whichever part has fewer numbers."""
    sizes, parts = [0, 0], {}
    for weight in sorted((weight for group in groups for weight in group["params"]), key=Tensor.numel, reverse=True):
        parts[weight] = int(sizes[1] < sizes[0])
        sizes[parts[weight]] += weight.numel()
    first, second = ([[p for p in group["params"] if parts[p] == part] for group in groups] for part in (0, 1))
    return first, second


def _gradients(part: Part) -> list[Tensor]:
    return [weight.grad for weights in part for weight in weights if weight.grad is not None]


def _row_by_row(lists: list[list[Tensor]]) -> list[list[Tensor]]:
    """Weights, their gradients and moments, matrices that lie column by column transposed.

    The kernel copies what does not lie row by row, there and back.
    """
    across = [weight.dim() == 2 and not weight.is_contiguous() and weight.t().is_contiguous() for weight in lists[0]]
    return [
        [each.t() if turned else each for each, turned in zip(of_weights, across, strict=True)] if of_weights else []
        for of_weights in lists
    ]
