r"""Integrated gradients, refined until they are complete.

For a function F, here a logit, counts x of a cell and a baseline x′, feature i is attributed

.. math::

    A_i = (x_i - x'_i) \int_0^1 \frac{\partial F(x' + α (x - x'))}{\partial x_i} \, dα,
    \qquad \sum_i A_i = F(x) - F(x')

The second equation is called completeness. No fixed number of steps brings it about here: the encoder divides counts by
the cell's mean before it takes their logarithm, so that the integrand is steep on the first thousandth of the path; and
it jumps wherever a ReLU switches. But what the attributions of a part of the path must sum to is known: what F gains
there. So each cell's path begins as one segment a decade of α, and segments that miss much of theirs are halved until
all of them together, taken without sign, miss 1 % of what F gains at most. The quadrature of a segment is captum's.

References
----------
Sundararajan, Taly, Yan: Axiomatic Attribution for Deep Networks. ICML 2017, equation 1 and proposition 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["N_DECADES", "Attributed", "Paths", "integrated_gradients"]

_DECADES = (0.0, 1e-3, 1e-2, 1e-1, 1.0)
N_DECADES = len(_DECADES) - 1
"""Segments that a path has before any is halved."""

_MOST_MISSED = 0.01
"""Share of what F gains."""
_ROUNDING = 1e-7
"""Share of F itself that is not told from nothing: captum's weights are float32."""
_MOST_HALVINGS = 16


@dataclass(frozen=True)
class Paths:
    """The straight path of each cell of a mini-batch, from the baseline to its counts, and what F is on it."""

    logits: Callable[..., Tensor]
    """Counts, (points, features), and what stands beside them → (points, labels)."""
    counts: Tensor
    """(cells, features)."""
    baseline: Tensor
    """(features,)."""
    target: Tensor
    """Code of the label whose logit is F, (cells,)."""
    beside: tuple[Tensor | None, ...] = ()
    """What else the logits take and the path leaves as it is, each (cells, ...)."""

    def at(self, cell: Tensor, position: Tensor) -> Tensor:
        """Counts on the paths of cells at positions from 0 to 1, both (points,): (points, features)."""
        return torch.lerp(self.baseline, self.counts[cell], position[:, None])

    def beside_of(self, cell: Tensor) -> tuple[Tensor | None, ...]:
        """What stands beside the counts of cells."""
        return tuple(None if part is None else part[cell] for part in self.beside)

    @torch.no_grad()
    def ends(self) -> tuple[Tensor, Tensor]:
        """F at the baseline and at the counts, each (cells,)."""
        ends = (self.logits(counts, *self.beside) for counts in (self.baseline.expand_as(self.counts), self.counts))
        first, last = (logits.gather(1, self.target[:, None]).squeeze(1) for logits in ends)
        return first, last


class _Segments(NamedTuple):
    """Parts of paths, each (segments,)."""

    cell: Tensor
    """Row of the cell."""
    start: Tensor
    end: Tensor
    """Positions on its path."""

    @classmethod
    def of(cls, paths: Paths) -> _Segments:
        """All of every path."""
        n_cells, edges = len(paths.counts), paths.counts.new_tensor(_DECADES)
        cell = torch.arange(n_cells, device=edges.device).repeat_interleave(N_DECADES)
        return cls(cell, edges[:-1].repeat(n_cells), edges[1:].repeat(n_cells))

    def split(self, size: int) -> Iterator[_Segments]:
        """These segments, ``size`` at a time."""
        for first in range(0, len(self.cell), size):
            yield _Segments(*(column[first : first + size] for column in self))

    def halves(self, chosen: Tensor) -> _Segments:
        """Both halves of the chosen ones."""
        cell, start, end = (column[chosen] for column in self)
        middle = (start + end) / 2
        return _Segments(cell.repeat(2), torch.cat((start, middle)), torch.cat((middle, end)))


class Attributed(NamedTuple):
    """What `integrated_gradients` found."""

    values: Tensor
    """Attributions of the features of each cell, (cells, features)."""
    is_complete: Tensor
    """Whether they sum to what F gains, to 1 %, (cells,), bool."""


def integrated_gradients(paths: Paths, n_points: int, batch_size: int) -> Attributed:
    """Attributions of the features of each cell.

    Parameters
    ----------
    paths
        What to integrate along what.
    n_points
        Points of the quadrature in one segment.
    batch_size
        Points that go through the network at once.
    """
    first, last = paths.ends()
    gain = last - first
    may_miss = _MOST_MISSED * gain.abs()
    rounding = _ROUNDING * torch.maximum(first.abs(), last.abs())
    total, n_done = torch.zeros_like(paths.counts), torch.zeros_like(gain)
    segments = _Segments.of(paths)
    for halvings in range(_MOST_HALVINGS + 1):
        # Those that are done in this round spend half of what their cell may miss at most: something is always left.
        n_open = torch.bincount(segments.cell, minlength=len(total))
        allowed = may_miss.clamp(min=0.0) / (2 * n_open) + rounding
        halves = []
        for part in segments.split(max(1, batch_size // n_points)):
            attributions, missed = _attribute(paths, part, n_points)
            coarse = (missed > allowed[part.cell]) & (halvings < _MOST_HALVINGS)
            done = ~coarse
            total.index_add_(0, part.cell[done], attributions[done])
            may_miss.index_add_(0, part.cell[done], -missed[done])
            n_done.index_add_(0, part.cell[done], torch.ones_like(missed[done]))
            halves.append(part.halves(coarse))
        segments = _Segments(*map(torch.cat, zip(*halves, strict=True)))
        if len(segments.cell) == 0:
            break
    # What segments miss may cancel. No number is not less than any: a cell whose logit is none is not complete.
    short = (total.sum(dim=-1) - gain).abs()
    return Attributed(total, short <= _MOST_MISSED * gain.abs() + n_done * rounding)


def _attribute(paths: Paths, part: _Segments, n_points: int) -> tuple[Tensor, Tensor]:
    """Attributions of segments, (segments, features), and what they miss of what F gains there, (segments,)."""
    from captum.attr import IntegratedGradients  # takes seconds to import

    attributions, missed = IntegratedGradients(paths.logits).attribute(
        paths.at(part.cell, part.end),
        baselines=paths.at(part.cell, part.start),
        target=paths.target[part.cell],
        additional_forward_args=paths.beside_of(part.cell),
        n_steps=n_points,
        method="gausslegendre",
        return_convergence_delta=True,
    )
    return attributions, missed.abs()
