r"""The marginal log-likelihood of cells, by importance sampling from the posterior.

.. math::

    p(x, y) = \mathbb{E}_{z, ℓ \sim q(\cdot \mid x, y)} \Big[ p(x \mid z, ℓ)\, \frac{p(ℓ)}{q(ℓ)}\,
        \frac{p(z)}{q(z)} \prod_j \mathbb{E}_{β_j \sim q(\cdot \mid z)} p(y_j \mid z, β_j) \frac{p(β_j)}{q(β_j)} \Big]

Given z, the backgrounds :math:`β_j` of the proteins are independent, and each is integrated on its own: a few draws of
each do for all what would take as many draws to the power of their number. Half of them come from q and half from the
prior, each weighed as a draw from the mixture of both, so that no ratio is above 2 however far off q is. In TotalANVI,
:math:`p(z)` is the labelled prior, estimated inside the same average:

.. math::

    p(z) = \sum_c π_c\, \mathbb{E}_{u \sim q(\cdot \mid z, c)} \Big[ p(z \mid u, c) \frac{p(u)}{q(u \mid z, c)} \Big]

Every factor is estimated without bias and independently of the others, and so is their product. The logarithm of an
average of them is biased downwards, the less the more draws there are.

References
----------
Burda, Grosse, Salakhutdinov: Importance weighted autoencoders. ICLR 2016, eq. 8. Owen, Zhou: Safe and effective
importance sampling. JASA 95 (2000), for draws from a mixture with the prior.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from totalanvi.training.data import Cells
from totalanvi.training.network.anvae import TotalANVAE
from totalanvi.training.network.distributions import log_protein_mixture
from totalanvi.training.network.labels import pair_labels
from totalanvi.training.network.losses import Normal, gene_reconstruction, log_normal
from totalanvi.training.network.vae import TotalVAE
from totalanvi.training.results.draw import Draw, draw
from totalanvi.training.results.posterior import CellPosterior, posteriors

__all__ = ["marginal_log_likelihood"]

_BACKGROUND_DRAWS = 5
"""Draws of β from each of its posterior and its prior, for each draw of z."""


@torch.inference_mode()
def marginal_log_likelihood(module: TotalVAE, cells: Cells, n_samples: int, batch_size: int) -> Tensor:
    """Estimate log p(x, y) of each cell, or log p(x, y, c) where its label c is known, (cells,), float64."""
    estimates = []
    for posterior in posteriors(module, cells, batch_size):
        total = torch.full((posterior.cells.n_cells,), -math.inf, dtype=torch.float64)
        for _ in range(n_samples):
            # In single precision, a thousandth of a likelihood of e^-10,000 would be lost when it is added.
            total = torch.logaddexp(total, _log_weight(module, posterior).cpu().double())
        estimates.append(total - math.log(n_samples))
    return torch.cat(estimates)


def _log_weight(module: TotalVAE, posterior: CellPosterior) -> Tensor:
    """Log of what is averaged, at one draw, (cells,)."""
    cells = posterior.cells
    drawn = draw(module, posterior)
    log_weight = (
        -gene_reconstruction(cells.rna, drawn.log_size + drawn.log_scale, drawn.gene_log_theta, drawn.dropout_logits)
        + _log_proteins(module, posterior, drawn)
        + _log_prior(module, drawn.z, cells.label)
        - log_normal(drawn.z, posterior.z)
    )
    if posterior.library is None or drawn.log_library is None:
        return log_weight
    prior = module.library_prior(cells.batch)
    return log_weight + log_normal(drawn.log_library, prior) - log_normal(drawn.log_library, posterior.library)


def _log_proteins(module: TotalVAE, posterior: CellPosterior, drawn: Draw) -> Tensor:
    """Log p(y | z) of the measured proteins, (cells,), each with its background integrated out."""
    cells, proteins = posterior.cells, drawn.proteins
    q = Normal(proteins.log_background_mean, proteins.log_background_scale)
    prior = module.background_prior(cells.panel)
    log_efficiency = module.log_efficiency(posterior.covariates.batch)
    total = torch.full_like(cells.protein, -math.inf)
    for source in (q, prior) * _BACKGROUND_DRAWS:
        log_beta = source.sample()
        log_background = log_beta + log_efficiency
        log_probability = log_protein_mixture(
            cells.protein,
            log_background,
            log_background + proteins.log_foreground_ratio,
            drawn.protein_log_theta,
            proteins.background_logits,
        )
        log_p, log_q = (log_normal(log_beta[..., None], _each(density)) for density in (prior, q))
        # The mixture's halves cancel with the two draws that each round makes.
        total = torch.logaddexp(total, log_probability + log_p - torch.logaddexp(log_p, log_q))
    return ((total - math.log(_BACKGROUND_DRAWS)) * cells.measured).sum(dim=-1)


def _each(normal: Normal) -> Normal:
    """The same Gaussians as distributions of one number each, whose densities are not summed."""
    return Normal(normal.mean[..., None], normal.scale[..., None])


def _log_prior(module: TotalVAE, z: Tensor, label: Tensor) -> Tensor:
    """Log p(z), or log p(z, c) where the label c is known, (cells,)."""
    if not isinstance(module, TotalANVAE):
        return log_normal(z, _standard(z))
    n_labels = module.dims.n_labels
    pairs = pair_labels(torch.ones_like(z[:, :1]).expand(-1, n_labels), label, n_exact=n_labels)
    z_pairs = z[pairs.cell]
    q_u = module.encoder_u(z_pairs, pairs.label)
    u = q_u.sample()
    log_pi = torch.log_softmax(module.label_prior_logits, dim=-1)[pairs.label]
    log_joint = log_pi + log_normal(z_pairs, module.decoder_z(u, pairs.label)) + log_normal(u, _standard(u))
    by_label = torch.full((len(z), n_labels), -math.inf, dtype=z.dtype, device=z.device)
    by_label[pairs.cell, pairs.label] = log_joint - log_normal(u, q_u)
    return by_label.logsumexp(dim=-1)


def _standard(z: Tensor) -> Normal:
    return Normal(torch.zeros_like(z), torch.ones_like(z))
