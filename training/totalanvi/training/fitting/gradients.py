"""Gradients of several processes become their mean, after each backward pass.

`DistributedDataParallel` would do so during one. It has to be told that a step leaves parameters aside, the adversary's
for one, and warns where a step does not; with two backward passes in a step, it would send all gradients twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import accumulate, chain, pairwise
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

__all__ = ["average_gradients", "without_reduction"]


def without_reduction(trainer: L.Trainer) -> AbstractContextManager[Any]:
    """Keep `DistributedDataParallel` from averaging gradients in the block."""
    model = trainer.strategy.model
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()


@torch.no_grad()
def average_gradients(optimizer: torch.optim.Optimizer) -> None:
    """Give the parameters of an optimiser the mean of their gradients in all processes.

    A parameter without a gradient has one of zeros where it has one in another process, and stays without otherwise.

    Parameters
    ----------
    optimizer
        Of the same parameters, in the same order, in each process.
    """
    parameters = list(chain.from_iterable(group["params"] for group in optimizer.param_groups))
    given = [weight.grad is not None for weight in parameters]
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    some = torch.tensor(given, dtype=parts[0].dtype, device=parts[0].device)
    flat = torch.cat([*(part.reshape(-1) for part in parts), some])
    torch.distributed.all_reduce(flat)
    flat /= torch.distributed.get_world_size()
    elsewhere = given if all(given) else (flat[-len(given) :] > 0).tolist()
    for weight, part, mean, has_one in zip(parameters, parts, _split(flat, parts), elsewhere, strict=True):
        if has_one:
            weight.grad = part.copy_(mean.view_as(part))


def _split(flat: Tensor, parts: list[Tensor]) -> Iterator[Tensor]:
    for start, stop in pairwise(accumulate((part.numel() for part in parts), initial=0)):
        yield flat[start:stop]
