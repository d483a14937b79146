"""Draws of denoised expression for two groups of cells, and which are compared with which.

A draw is one cell of the group, taken with replacement, and one z of its posterior. Memory is that of the draws,
(draws, features) a group, and of one mini-batch, whatever the number of cells. All randomness is torch's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from totalanvi.training.data import Cells
from totalanvi.training.errors import ArgumentError
from totalanvi.training.network.vae import TotalVAE
from totalanvi.training.results.differential.batches import BatchPolicy
from totalanvi.training.results.expression import ExpressionOptions, normalized_expression

__all__ = ["Draws", "Pairs", "Sampling", "draw_expression", "pair_up"]

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Sampling:
    """How to draw.

    Parameters
    ----------
    expression
        What to decode.
    policy
        As which batches.
    n_draws
        Draws for each group, dealt evenly to the batches that it is decoded as.
    n_pairs
        Pairs of draws, chosen with replacement; each draw once for `None`.
    batch_size
        Cells in a mini-batch.

    Raises
    ------
    ArgumentError
        When there are fewer draws or pairs than batches.
    """

    expression: ExpressionOptions
    policy: BatchPolicy
    n_draws: int
    n_pairs: int | None
    batch_size: int

    def __post_init__(self) -> None:
        n_batches = max(len(self.policy.first), len(self.policy.second))
        for argument, value in (("n_samples_overall", self.n_draws), ("m_permutation", self.n_pairs)):
            if value is not None and value < n_batches:
                raise ArgumentError(
                    f"{argument}: expected at least one for each of the {n_batches} batches, found {value}; give more."
                )


class Draws(NamedTuple):
    """Draws of one group, in the order of the batches that they were decoded as."""

    genes: Array
    """ρ, or its counterpart where the data has a size factor, (draws, genes)."""
    proteins: Array
    """Denoised counts, (draws, proteins)."""


class Pairs(NamedTuple):
    """Rows of the draws of either group that are compared, (pairs,) each."""

    first: npt.NDArray[np.intp]
    second: npt.NDArray[np.intp]


def draw_expression(
    module: TotalVAE,
    cells: Cells,
    members: npt.NDArray[np.intp],
    decode_as: Sequence[int | None],
    sampling: Sampling,
) -> Draws:
    """Draw from the posterior of a group of cells.

    Parameters
    ----------
    module
        The network.
    cells
        Registered cells.
    members
        Positions of those in the group.
    decode_as
        Codes of batches; `None` for each cell's own.
    sampling
        How to draw.
    """
    parts = []
    for code, n_draws in zip(decode_as, _dealt(sampling.n_draws, len(decode_as)), strict=True):
        drawn = members[torch.randint(len(members), (n_draws,)).numpy()]
        options = replace(sampling.expression, decode_as=(code,))
        parts.append(normalized_expression(module, cells[drawn], options, sampling.batch_size))
    genes, proteins = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Draws(genes, proteins)


def pair_up(sampling: Sampling) -> Pairs | None:
    """Which draws of the first group meet which of the second; as they stand for `None`.

    Draws are independent, so that their order will do where both groups were decoded alike: then the pairs are of the
    same batch. Where the groups have batches of their own, any batch of one may meet any of the other.
    """
    within, n_draws = sampling.policy.pairs_within_batches, sampling.n_draws
    if sampling.n_pairs is None:
        same = sampling.policy.first == sampling.policy.second
        return None if same else Pairs(np.arange(n_draws), torch.randperm(n_draws).numpy())
    n_blocks = len(sampling.policy.first) if within else 1
    blocks = list(zip(_dealt(n_draws, n_blocks), _dealt(sampling.n_pairs, n_blocks), strict=True))
    starts = np.cumsum([0] + [size for size, _ in blocks[:-1]])
    first, second = (
        np.concatenate(
            [
                start + torch.randint(size, (n_pairs,)).numpy()
                for start, (size, n_pairs) in zip(starts, blocks, strict=True)
            ]
        )
        for _ in range(2)
    )
    return Pairs(first, second)


def _dealt(n: int, n_shares: int) -> list[int]:
    """``n`` in shares that differ by one at most."""
    return [n // n_shares + (i < n % n_shares) for i in range(n_shares)]
