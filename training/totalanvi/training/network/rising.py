r"""The rising factorial of dispersions, which the likelihood of a count needs instead of two gamma functions.

.. math::

    \log\frac{Γ(x + θ)}{Γ(θ)} = \sum_{k=0}^{x-1} \log(θ + k), \quad
    ψ(x + θ) - ψ(θ) = \sum_{k=0}^{x-1} \frac{1}{θ + k}

Most stored counts are a few molecules, and all cells share a gene's θ. So a small table, (counts, genes), has nearly
every value; the gamma functions, which cost ten times a logarithm, are left for the others.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["log_factorial", "log_rising", "slope_of_log_rising"]

_MOST = 8
"""The largest count in the table."""


def log_rising(counts: Tensor, theta: Tensor, columns: Tensor) -> Tensor:
    """``log Γ(x + θ) − log Γ(θ)``, (stored,), for counts x, (stored,), of genes ``columns``, and θ, (genes,)."""
    return _sums(torch.log, torch.lgamma, counts, theta, columns)


def log_factorial(counts: Tensor) -> Tensor:
    """``log x!`` of counts x, (stored,): the rising factorial of 1."""
    return log_rising(counts, counts.new_ones(1), torch.zeros_like(counts, dtype=torch.long))


def slope_of_log_rising(counts: Tensor, theta: Tensor, columns: Tensor) -> Tensor:
    """Derivative of `log_rising` to θ, (stored,)."""
    return _sums(torch.reciprocal, torch.digamma, counts, theta, columns)


def _sums(
    term: Callable[[Tensor], Tensor], whole: Callable[[Tensor], Tensor], counts: Tensor, theta: Tensor, columns: Tensor
) -> Tensor:
    """Sum of ``term(θ + k)`` over k below each count, which is ``whole(θ + x) − whole(θ)`` for any count."""
    if theta.device.type != "cpu":  # which counts are large would have to be known here
        theta_stored = theta.index_select(0, columns)
        return whole(counts + theta_stored) - whole(theta).index_select(0, columns)
    steps = torch.arange(_MOST, dtype=theta.dtype)
    table = torch.cat((torch.zeros_like(theta)[None], term(theta + steps[:, None]).cumsum(dim=0)))
    whole_numbers = counts.long()
    result = table.view(-1).index_select(0, whole_numbers.clamp(max=_MOST) * len(theta) + columns)
    others = torch.nonzero((whole_numbers > _MOST) | (whole_numbers != counts)).squeeze(-1)
    theta_others = theta.index_select(0, columns.index_select(0, others))
    return result.index_copy_(0, others, whole(counts.index_select(0, others) + theta_others) - whole(theta_others))
