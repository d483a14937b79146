r"""The coefficient of the negative binomial, and its slope, without gamma functions.

.. math::

    \frac{Γ(x + θ)}{Γ(θ)\,Γ(x + 1)} = \prod_{k=1}^{x} \frac{θ + k - 1}{k}, \quad
    ψ(x + θ) - ψ(θ) = \sum_{k=1}^{x} \frac{1}{θ + k - 1}

Most stored counts are a few molecules, and all cells share a gene's θ. So a small table, (counts, genes), has nearly
every value; the gamma functions, which cost ten times a logarithm, are left for the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["log_coefficient", "log_coefficient_and_slope", "slope_of_log_coefficient"]

_MOST = 8
"""The largest count in the table."""


def log_coefficient(counts: Tensor, theta: Tensor, columns: Tensor) -> Tensor:
    """``log Γ(x + θ) / (Γ(θ) Γ(x + 1))``, (stored,), for counts x, (stored,), of genes ``columns``, and θ, (genes,)."""
    return _sums(counts, theta, columns, _COEFFICIENT)[0]


def slope_of_log_coefficient(counts: Tensor, theta: Tensor, columns: Tensor) -> Tensor:
    """Derivative of `log_coefficient` to θ, (stored,)."""
    return _sums(counts, theta, columns, _SLOPE)[0]


def log_coefficient_and_slope(counts: Tensor, theta: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """`log_coefficient` and `slope_of_log_coefficient`, which look at the counts once."""
    coefficient, slope = _sums(counts, theta, columns, _COEFFICIENT, _SLOPE)
    return coefficient, slope


class _Sum(NamedTuple):
    """A sum over k from 1 to a count."""

    term: Callable[[Tensor, Tensor], Tensor]
    """A term of it, of θ and k."""
    whole: Callable[[Tensor, Tensor], Tensor]
    """All of it, of any count and θ."""


_COEFFICIENT = _Sum(
    lambda theta, k: torch.log((theta + (k - 1)) / k),
    lambda x, theta: torch.lgamma(x + theta) - torch.lgamma(theta) - torch.lgamma(x + 1.0),
)
_SLOPE = _Sum(
    lambda theta, k: torch.reciprocal(theta + (k - 1)),
    lambda x, theta: torch.digamma(x + theta) - torch.digamma(theta),
)


def _sums(counts: Tensor, theta: Tensor, columns: Tensor, *wanted: _Sum) -> list[Tensor]:
    if theta.device.type != "cpu":  # which counts are large would have to be known here
        return [each.whole(counts, theta.index_select(0, columns)) for each in wanted]
    steps = torch.arange(1, _MOST + 1, dtype=theta.dtype)[:, None]
    whole_numbers = counts.long()
    places = whole_numbers.clamp(max=_MOST).mul_(len(theta)).add_(columns)
    others = torch.nonzero((whole_numbers > _MOST).logical_or_(whole_numbers != counts)).squeeze(-1)
    counts_of_others = counts.index_select(0, others)
    theta_of_others = theta.index_select(0, columns.index_select(0, others))
    results = []
    for each in wanted:
        table = torch.cat((torch.zeros_like(theta)[None], each.term(theta, steps).cumsum(dim=0)))
        result = table.view(-1).index_select(0, places)
        results.append(result.index_copy_(0, others, each.whole(counts_of_others, theta_of_others)))
    return results
