r"""Log-probabilities of the count models, per cell.

Genes are negative binomial with mean ``μ`` and inverse dispersion ``θ``, optionally zero-inflated; proteins are a
mixture of two negative binomials, background and foreground, that share ``θ``.

.. math::

    \log \mathrm{NB}(x; μ, θ) = \log\Gamma(x + θ) - \log\Gamma(θ) - \log\Gamma(x + 1)
        + θ \log\frac{θ}{θ + μ} + x \log\frac{μ}{θ + μ}

Most RNA counts are zero, and at zero only :math:`θ \log\frac{θ}{θ + μ}` is left. So the gene likelihood pays for that
one term everywhere and for the rest only where counts are stored: no lgamma is computed at a zero.

References
----------
Lopez et al., Nature Methods 15 (2018), the gene model; Gayoso, Steier et al., Nature Methods 18 (2021), eqs. 3-6, the
protein mixture.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from totalanvi.training.data import SparseRows

__all__ = [
    "log_negative_binomial",
    "log_negative_binomial_rows",
    "log_protein_mixture",
    "log_zero_inflated_rows",
]


def log_negative_binomial(counts: Tensor, log_mean: Tensor, log_theta: Tensor) -> Tensor:
    """Elementwise log NB(counts; exp(log_mean), exp(log_theta)), everything in log space.

    Parameters
    ----------
    counts, log_mean, log_theta
        Tensors that broadcast together.

    Returns
    -------
    Tensor
        Log-probabilities of the broadcast shape.
    """
    theta = log_theta.exp()
    return _log_coefficient(counts, theta) + _log_odds(counts, log_mean - log_theta, theta)


def _log_coefficient(counts: Tensor, theta: Tensor) -> Tensor:
    """The part of log NB that does not depend on the mean."""
    return torch.lgamma(counts + theta) - torch.lgamma(theta) - torch.lgamma(counts + 1.0)


def _log_odds(counts: Tensor, log_ratio: Tensor, theta: Tensor) -> Tensor:
    """The part that does, from log μ − log θ; one softplus gives the other: softplus(−r) = softplus(r) − r."""
    return counts * log_ratio - (theta + counts) * F.softplus(log_ratio)


def _log_zero(log_ratio: Tensor, theta: Tensor) -> Tensor:
    """Sum over genes of log NB(0): ``-Σ θ softplus(log μ − log θ)``, (cells, genes) → (cells,)."""
    softplus = F.softplus(log_ratio)
    if theta.dim() > 1:
        return -(softplus * theta).sum(dim=-1)
    # A matrix-vector product reads the big matrix once; an elementwise product would write it again. It is the only one
    # here, and the only thing that training in half precision would round.
    with torch.autocast(softplus.device.type, enabled=False):
        return -(softplus @ theta)


def _log_stored(rows: SparseRows, log_ratio: Tensor, theta: Tensor) -> Tensor:
    """What log NB adds to log NB(0) at each stored count, (stored,)."""
    counts = rows.values
    theta_at = theta.index_select(0, rows.columns) if theta.dim() == 1 else rows.gather(theta)
    return _log_coefficient(counts, theta_at) - counts * F.softplus(-rows.gather(log_ratio))


def log_negative_binomial_rows(rows: SparseRows, log_mean: Tensor, log_theta: Tensor) -> Tensor:
    """Log-probability of each cell's RNA counts under the negative binomial.

    Parameters
    ----------
    rows
        Counts, (cells, genes), sparse.
    log_mean
        Log of the expected counts, (cells, genes).
    log_theta
        Log inverse dispersion, (genes,) or (cells, genes).

    Returns
    -------
    Tensor
        (cells,), summed over genes.
    """
    theta = log_theta.exp()
    log_ratio = log_mean - log_theta
    return _log_zero(log_ratio, theta) + rows.sum_per_row(_log_stored(rows, log_ratio, theta))


def log_zero_inflated_rows(rows: SparseRows, log_mean: Tensor, log_theta: Tensor, dropout_logits: Tensor) -> Tensor:
    """Log-probability of each cell's RNA counts under the zero-inflated negative binomial.

    A count is 0 with probability ``π = sigmoid(dropout_logits)`` and otherwise negative binomial, so that
    ``log p(0) = log(π + (1 − π) NB(0))`` and ``log p(x) = log(1 − π) + log NB(x)`` for ``x > 0``.

    Parameters
    ----------
    rows, log_mean, log_theta
        As in `log_negative_binomial_rows`.
    dropout_logits
        Logits of the extra zeros, (cells, genes).

    Returns
    -------
    Tensor
        (cells,), summed over genes.
    """
    theta = log_theta.exp()
    log_ratio = log_mean - log_theta
    log_zero_nb = -theta * F.softplus(log_ratio)
    log_zero = F.softplus(log_zero_nb - dropout_logits) - F.softplus(-dropout_logits)
    log_kept = -F.softplus(dropout_logits)
    at_stored = (
        rows.gather(log_kept) + rows.gather(log_zero_nb) + _log_stored(rows, log_ratio, theta) - rows.gather(log_zero)
    )
    # A stored zero is a zero: it keeps the dense term.
    return log_zero.sum(dim=-1) + rows.sum_per_row(at_stored * (rows.values > 0))


def log_protein_mixture(
    counts: Tensor, log_background: Tensor, log_foreground: Tensor, log_theta: Tensor, background_logits: Tensor
) -> Tensor:
    r"""Log-probability of protein counts under the background/foreground mixture, (cells, proteins).

    .. math:: p(y) = π\,\mathrm{NB}(y; μ_b, θ) + (1 - π)\,\mathrm{NB}(y; μ_f, θ), \quad π = σ(\text{logits})

    Parameters
    ----------
    counts
        Protein counts, (cells, proteins).
    log_background, log_foreground
        Log means of the two components, (cells, proteins).
    log_theta
        Log inverse dispersion shared by both, (proteins,) or (cells, proteins).
    background_logits
        Logits of the background component, (cells, proteins).
    """
    theta = log_theta.exp()
    background = _log_odds(counts, log_background - log_theta, theta) + F.logsigmoid(background_logits)
    foreground = _log_odds(counts, log_foreground - log_theta, theta) + F.logsigmoid(-background_logits)
    # The rest is the same for both.
    return torch.logaddexp(background, foreground) + _log_coefficient(counts, theta)
