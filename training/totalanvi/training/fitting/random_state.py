"""The state of the random numbers that a run draws, so that it goes on as if it had not been interrupted."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

__all__ = ["draw_apart", "random_state", "restore_random_state"]


def random_state(device: torch.device) -> dict[str, Tensor]:
    """State of the generators that a network on ``device`` draws from: the CPU's, and the CUDA device's own.

    Examples
    --------
    >>> state = random_state(torch.device("cpu"))
    >>> first = torch.rand(3)
    >>> restore_random_state(state, torch.device("cpu"))
    >>> torch.equal(torch.rand(3), first)
    True
    """
    state = {"cpu": torch.get_rng_state()}
    return state | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state


def restore_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    """Take up what `random_state` gave; on another kind of device than then, of what both have."""
    torch.set_rng_state(state["cpu"].cpu())
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)


def draw_apart(seed: int, epoch: int, rank: int) -> None:
    """Let a process beside the first draw noise of its own.

    It depends on the seed and the epoch alone, so that a resumed run need not keep it; the first process goes on as one
    that trains alone would.

    Examples
    --------
    >>> draw_apart(seed=0, epoch=3, rank=1)  # doctest: +SKIP
    """
    torch.manual_seed(int(np.random.SeedSequence((seed, epoch, rank)).generate_state(1)[0]))
