r"""Log-probability of RNA counts whose means are shares of a library: the inner loop of training, in one piece.

With :math:`μ_{ng} = ℓ_n \, \mathrm{softmax}(a_n)_g` and :math:`q = μ / θ`, and because :math:`x = 0` nearly everywhere,

.. math::

    \log p(x_n) = -\sum_g θ_g \log(1 + q_{ng})
        + \sum_{g: x > 0} \Big[ \log\frac{Γ(x + θ_g)}{Γ(θ_g) \, Γ(x + 1)} + x \log\frac{q_{ng}}{1 + q_{ng}} \Big]

This is what `distributions.log_negative_binomial_rows` says of ``log ℓ + log_softmax(a)``. Written as one function with
its own gradient, it takes two transcendental functions of each entry, the exponential in the softmax and the logarithm,
instead of six. With the gradient to :math:`\log μ`, and its sum over genes,

.. math:: d_{ng} = \frac{x_{ng} - θ_g q_{ng}}{1 + q_{ng}}, \quad D_n = \sum_g d_{ng},

those to the logits and to :math:`\log ℓ` are :math:`d_{ng} - D_n \, \mathrm{softmax}(a_n)_g` and :math:`D_n`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from totalanvi.training.data import SparseRows
from totalanvi.training.network.rising import log_coefficient, slope_of_log_coefficient

__all__ = [
    "Shares",
    "log_negative_binomial_of_shares",
    "log_probability",
    "slope_to_log_mean",
]


def log_negative_binomial_of_shares(rows: SparseRows, logits: Tensor, log_size: Tensor, log_theta: Tensor) -> Tensor:
    """Log-probability of each cell's RNA counts under the negative binomial with mean ``size · softmax(logits)``.

    Parameters
    ----------
    rows
        Counts, (cells, genes), sparse.
    logits
        Logits of the shares, (cells, genes).
    log_size
        Log of what the shares are multiplied by, (cells, 1).
    log_theta
        Log inverse dispersion, (genes,).

    Returns
    -------
    Tensor
        (cells,), summed over genes.
    """
    result: Tensor = _SoftmaxCounts.apply(logits, log_size, log_theta, rows)  # type: ignore[no-untyped-call]
    return result


class Shares(NamedTuple):
    """What the likelihood of some cells was made of, each (cells, genes)."""

    share: Tensor
    """``softmax(logits)``."""
    ratio: Tensor
    """q = μ / θ."""
    log_rest: Tensor
    """``log(1 + q)``."""


def log_probability(
    rows: SparseRows, logits: Tensor, log_size: Tensor, log_theta: Tensor, coefficients: Tensor
) -> tuple[Tensor, Shares]:
    """Log-probability of each cell's counts, (cells,), and what its slopes are made of; no gradient is recorded.

    Parameters
    ----------
    rows, logits, log_size, log_theta
        As in `log_negative_binomial_of_shares`.
    coefficients
        ``log Γ(x + θ) / (Γ(θ) Γ(x + 1))`` of the stored counts, (stored,).
    """
    share = torch.softmax(logits, dim=-1)
    # The largest share is never too small for its logarithm, unlike the share of a gene that is counted.
    log_total = logits.amax(dim=-1) - share.amax(dim=-1).log()
    ratio = (share * log_size.exp()).mul_((-log_theta).exp())
    log_rest = ratio.log1p()
    log_ratio = (
        rows.gather(logits)
        + (log_size.squeeze(-1) - log_total).index_select(0, rows.rows)
        - log_theta.index_select(0, rows.columns)
    )
    stored = coefficients + rows.values * (log_ratio - rows.gather(log_rest))
    return rows.sum_per_row(stored) - _matmul(log_rest, log_theta.exp()), Shares(share, ratio, log_rest)


def slope_to_log_mean(rows: SparseRows, shares: Shares, theta: Tensor) -> Tensor:
    """Derivative of the log-probability to log μ, d in the formulas above, (cells, genes)."""
    rest = shares.ratio + 1.0
    stored = rows.values / rows.gather(rest)
    slope = torch.div(shares.ratio, rest, out=rest).mul_(-theta)
    return slope.view(-1).index_add_(0, rows.flat, stored).view_as(slope)


class _SoftmaxCounts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, log_size: Tensor, log_theta: Tensor, rows: SparseRows) -> Tensor:
        theta = log_theta.exp()
        result, shares = log_probability(
            rows, logits, log_size, log_theta, log_coefficient(rows.values, theta, rows.columns)
        )
        ctx.rows = rows
        ctx.save_for_backward(*shares, theta)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        *parts, theta = ctx.saved_tensors
        rows, shares = ctx.rows, Shares(*parts)

        by_log_mean = slope_to_log_mean(rows, shares, theta).mul_(gradient.unsqueeze(-1))
        by_log_size = by_log_mean.sum(dim=-1, keepdim=True)

        slopes = slope_of_log_coefficient(rows.values, theta, rows.columns)
        by_theta = -_matmul(gradient, shares.log_rest)
        by_theta.index_add_(0, rows.columns, slopes * gradient.index_select(0, rows.rows))
        by_log_theta = theta * by_theta - by_log_mean.sum(dim=0)
        by_logits = by_log_mean.addcmul_(shares.share, by_log_size, value=-1.0)
        return by_logits, by_log_size, by_log_theta, None


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b`` in the precision that both have, even where training uses half of it."""
    with torch.autocast(a.device.type, enabled=False):
        return a @ b
