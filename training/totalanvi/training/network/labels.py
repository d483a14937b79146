r"""Which labels a cell is summed over.

A cell with a label needs that one alone. A cell without is summed over the labels, weighted by q(c | z): over all of
them where there are few, else over the likeliest exactly and over the rest by one draw, which keeps the sum unbiased
while its cost no longer grows with the number of labels.

.. math::

    \sum_c q_c f_c = \sum_{c \in T} q_c f_c + \Big(\sum_{c \notin T} q_c\Big)\,
        \mathbb{E}_{c' \sim q \mid c' \notin T} [f_{c'}]

A classifier that has learnt something leaves most labels next to nothing. Training keeps a pair whose weight is small
by chance, in proportion to its weight, and lets it count for those that were not kept: without bias again.

How many pairs that makes, a GPU would have to tell the CPU, and both would wait for it. There, each cell has as many
pairs as any other, and those that are not needed weigh nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from totalanvi.training.data import UNLABELLED

__all__ = ["CellLabelPairs", "pair_labels", "pair_labels_evenly"]


class CellLabelPairs(NamedTuple):
    """Pairs of a cell and a label, flat: a function of both is evaluated once a pair and summed into the cells."""

    cell: Tensor
    """Row of the cell, (pairs,)."""
    label: Tensor
    """Label code, (pairs,)."""
    weight: Tensor
    """Weight of the pair in its cell's sum, (pairs,), with its gradient to q(c | z)."""
    n_each: int | None = None
    """Pairs of each cell, side by side, where all have as many."""

    def of_cells(self, values: Tensor) -> Tensor:
        """Repeat ``values``, (cells, features), for each pair, (pairs, features)."""
        return values[self.cell] if self.n_each is None else values.repeat_interleave(self.n_each, dim=0)

    def sum_into_cells(self, values: Tensor, n_cells: int) -> Tensor:
        """Weighted sum of ``values``, (pairs,), for each cell, (cells,)."""
        if self.n_each is not None:
            return (self.weight * values).view(n_cells, self.n_each).sum(dim=-1)
        return values.new_zeros(n_cells).index_add(0, self.cell, self.weight * values)


def pair_labels(probabilities: Tensor, label: Tensor, n_exact: int, sure: float = 0.0) -> CellLabelPairs:
    """Pair each cell with the labels its objective needs.

    Parameters
    ----------
    probabilities
        q(c | z), (cells, labels).
    label
        Known label codes, (cells,), `UNLABELLED` where there is none.
    n_exact
        Labels that an unlabelled cell is summed over exactly; one draw stands for the rest.
    sure
        Weight from which on a pair is sure to be kept; a smaller one is kept with its share of this for a chance, and
        counts as this much. With 0, all are kept.

    Returns
    -------
    CellLabelPairs
        Labelled cells come first, with weight 1.
    """
    known = label != UNLABELLED
    labelled = torch.nonzero(known).squeeze(-1)
    unlabelled = torch.nonzero(~known).squeeze(-1)
    codes, weights = _needed(probabilities[unlabelled], n_exact)
    cells, codes, weights = unlabelled.repeat_interleave(codes.shape[-1]), codes.reshape(-1), weights.reshape(-1)
    if sure > 0:
        chance = (weights.detach() / sure).clamp(max=1.0)
        kept = torch.nonzero(torch.rand_like(chance) < chance).squeeze(-1)
        cells, codes, weights = cells[kept], codes[kept], weights[kept] / chance[kept]
    return CellLabelPairs(
        cell=torch.cat((labelled, cells)),
        label=torch.cat((label[labelled], codes)),
        weight=torch.cat((torch.ones_like(labelled, dtype=probabilities.dtype), weights)),
    )


def pair_labels_evenly(probabilities: Tensor, label: Tensor, n_exact: int) -> CellLabelPairs:
    """Pair each cell with as many labels as any other: the same sums as of `pair_labels`, in tensors of a fixed shape.

    Parameters
    ----------
    probabilities, label, n_exact
        As in `pair_labels`.

    Returns
    -------
    CellLabelPairs
        All pairs of a cell without a label count; those of a labelled cell have its label, and the first one counts.
    """
    codes, weights = _needed(probabilities, n_exact)
    n_cells, n_each = codes.shape
    known = (label != UNLABELLED).unsqueeze(-1)
    first = torch.arange(n_each, device=label.device) == 0
    cells = torch.arange(n_cells, device=label.device).unsqueeze(-1).expand(n_cells, n_each)
    return CellLabelPairs(
        cell=cells.reshape(-1),
        label=torch.where(known, label.clamp(min=0).unsqueeze(-1), codes).reshape(-1),
        weight=torch.where(known, first.to(weights.dtype), weights).reshape(-1),
        n_each=n_each,
    )


def _needed(q: Tensor, n_exact: int) -> tuple[Tensor, Tensor]:
    """Labels that cells without one are summed over, and their weights, both (cells, pairs of each)."""
    n_labels = q.shape[-1]
    if n_labels <= n_exact + 1:
        return torch.arange(n_labels, device=q.device).expand(len(q), n_labels), q
    weights, codes = q.topk(n_exact, dim=-1)
    rest = q.detach().scatter(-1, codes, 0.0)
    mass = rest.sum(dim=-1, keepdim=True)
    # Where the exact labels hold all the mass, any draw will do: its weight is zero.
    drawn = _draw(torch.where(mass > 0, rest, torch.ones_like(rest)))
    at_draw = rest.gather(-1, drawn)
    q_drawn = q.gather(-1, drawn)
    # The value of the weight is the mass of the rest; its gradient is that of log q at the draw.
    weight_drawn = torch.where(at_draw > 0, mass * q_drawn / at_draw.clamp(min=1e-30), torch.zeros_like(mass))
    return torch.cat((codes, drawn), dim=-1), torch.cat((weights, weight_drawn), dim=-1)


def _draw(weights: Tensor) -> Tensor:
    """Draw a column of each row with probability proportional to its weight, (rows, columns) → (rows, 1).

    `torch.multinomial` draws a random number for every column; one for each row is enough.
    """
    heights = weights.cumsum(dim=-1)
    below = torch.rand_like(heights[:, :1]) * heights[:, -1:]
    # The first column that is higher: it has a weight of its own, since otherwise its left neighbour would be, too.
    return torch.searchsorted(heights, below, right=True).clamp(max=weights.shape[-1] - 1)
