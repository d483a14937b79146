r"""The coefficient of the negative binomial, and its slope, without gamma functions.

.. math::

    \frac{Γ(x + θ)}{Γ(θ)\,Γ(x + 1)} = \prod_{k=1}^{x} \frac{θ + k - 1}{k}, \quad
    ψ(x + θ) - ψ(θ) = \sum_{k=1}^{x} \frac{1}{θ + k - 1}

Most stored counts are a few molecules, and all cells share a gene's θ. So a small table, (counts, genes), has nearly
every value; the gamma functions, which cost ten times a logarithm, are left for the others.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["log_coefficient", "slope_of_log_coefficient"]

_MOST = 8
"""The largest count in the table."""


def log_coefficient(counts: Tensor, theta: Tensor, columns: Tensor) -> Tensor:
    """``log Γ(x + θ) / (Γ(θ) Γ(x + 1))``, (stored,), for counts x, (stored,), of genes ``columns``, and θ, (genes,)."""

    def of_count(x: Tensor, theta: Tensor) -> Tensor:
        return torch.lgamma(x + theta) - torch.lgamma(theta) - torch.lgamma(x + 1.0)

    return _sums(lambda theta, k: torch.log((theta + (k - 1)) / k), of_count, counts, theta, columns)


def slope_of_log_coefficient(counts: Tensor, theta: Tensor, columns: Tensor) -> Tensor:
    """Derivative of `log_coefficient` to θ, (stored,)."""

    def of_count(x: Tensor, theta: Tensor) -> Tensor:
        return torch.digamma(x + theta) - torch.digamma(theta)

    return _sums(lambda theta, k: torch.reciprocal(theta + (k - 1)), of_count, counts, theta, columns)


def _sums(
    term: Callable[[Tensor, Tensor], Tensor],
    of_count: Callable[[Tensor, Tensor], Tensor],
    counts: Tensor,
    theta: Tensor,
    columns: Tensor,
) -> Tensor:
    """Sum of ``term(θ, k)`` over k from 1 to each count, which is ``of_count(x, θ)`` for any count."""
    if theta.device.type != "cpu":  # which counts are large would have to be known here
        return of_count(counts, theta.index_select(0, columns))
    steps = torch.arange(1, _MOST + 1, dtype=theta.dtype)[:, None]
    table = torch.cat((torch.zeros_like(theta)[None], term(theta, steps).cumsum(dim=0)))
    whole_numbers = counts.long()
    result = table.view(-1).index_select(0, whole_numbers.clamp(max=_MOST) * len(theta) + columns)
    others = torch.nonzero((whole_numbers > _MOST) | (whole_numbers != counts)).squeeze(-1)
    theta_of_others = theta.index_select(0, columns.index_select(0, others))
    return result.index_copy_(0, others, of_count(counts.index_select(0, others), theta_of_others))
