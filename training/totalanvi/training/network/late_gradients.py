"""Gradients of weights, for which nothing in a backward pass waits: whoever has time computes them.

Of a linear map's two gradients, that of its input is wanted at once, by the layer below; that of its weights when the
optimiser steps. The thread beside does what has come together while the other one goes on, and this one helps when it
is done. A gradient is the same numbers whoever computes it, and several of one weight are added in the order of the
backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = ["LateGradients", "Linear", "may_be_late"]


class _Task:
    def __init__(self, weights: Sequence[Tensor], compute: Callable[[], Sequence[Tensor]]):
        self.weights, self.compute = weights, compute
        self.gradients: Sequence[Tensor]

    @torch.no_grad()
    def do(self) -> None:
        self.gradients = self.compute()


class LateGradients:
    """Gradients that are still to be computed, from the forward pass of a step to its end.

    Parameters
    ----------
    beside
        A thread that computes them, after what it has been given before.

    Examples
    --------
    >>> with LateGradients(executor) as late:  # doctest: +SKIP
    ...     loss = network(x)
    ...     late.begin()
    ...     loss.backward()
    ...     late.finish()
    """

    def __init__(self, beside: Executor):
        self._beside = beside
        self._tasks: list[_Task] = []
        self._queue: SimpleQueue[_Task | None] = SimpleQueue()
        self._elsewhere: Future[None] | None = None
        self.is_open = False
        """Whether a step is being done: what computes gradients outside one gets them from autograd."""

    def __enter__(self) -> Self:
        self.is_open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.is_open = False
        if self._elsewhere is not None:
            self._queue.put(None)
            self._elsewhere = None
        self._tasks = []

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Leave none to copies of the network and to what is saved of it: these do not train."""
        return type(None), ()

    def begin(self) -> None:
        """Let the thread beside begin, when it is done with what it does."""
        self._queue = SimpleQueue()
        self._elsewhere = self._beside.submit(self._work)

    def add(self, weights: Sequence[Tensor], compute: Callable[[], Sequence[Tensor]]) -> None:
        """Have gradients computed.

        Parameters
        ----------
        weights
            Parameters.
        compute
            Makes the gradient of each.
        """
        task = _Task(weights, compute)
        self._tasks.append(task)
        self._queue.put(task)

    def help(self, awaited: Future[Any]) -> None:
        """Compute gradients until what the thread beside does before them is done, or none is left."""
        while self._elsewhere is not None and not awaited.done() and self._do_one():
            pass

    def finish(self) -> None:
        """Compute what is left, and give all weights their gradients."""
        while self._do_one():
            pass
        self._queue.put(None)
        assert self._elsewhere is not None
        self._elsewhere.result()
        self._elsewhere = None
        for task in self._tasks:
            for weight, gradient in zip(task.weights, task.gradients, strict=True):
                weight.grad = gradient if weight.grad is None else weight.grad + gradient
        self._tasks = []

    def _do_one(self) -> bool:
        """Compute gradients that nobody has begun with; whether there were any."""
        try:
            task = self._queue.get_nowait()
        except Empty:
            return False
        assert task is not None
        task.do()
        return True

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            task.do()


def may_be_late(late: LateGradients | None, *weights: Tensor) -> bool:
    """Whether gradients may come late: those of parameters that train, in a step, if nobody wants to hear of them."""
    return late is not None and late.is_open and all(map(_is_plain, weights))


def _is_plain(weight: Tensor) -> bool:
    listened_to = weight._backward_hooks or weight._post_accumulate_grad_hooks
    return weight.is_leaf and weight.requires_grad and not listened_to


class Linear(nn.Linear):
    """A linear map whose weights get their gradients late, where somebody says so."""

    late: LateGradients | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., n_in) to (..., n_out)."""
        if not may_be_late(self.late, self.weight, self.bias) or not x.is_contiguous():
            return super().forward(x)
        result: Tensor = _Linear.apply(x, self.weight, self.bias, self.late)  # type: ignore[no-untyped-call]
        return result


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, late: LateGradients) -> Tensor:
        ctx.late, ctx.weights = late, (weight, bias)
        ctx.save_for_backward(x)
        return F.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        flat, cells = gradient.flatten(0, -2), x.flatten(0, -2)
        ctx.late.add(ctx.weights, lambda: (flat.t() @ cells, flat.sum(dim=0)))
        return ((flat @ ctx.weights[0]).view_as(x) if ctx.needs_input_grad[0] else None), None, None, None
