"""One draw of everything that is latent in a mini-batch, decoded: what predictions and likelihoods are made of."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from totalanvi.training.network.covariates import Covariates
from totalanvi.training.network.decoders import ProteinParameters
from totalanvi.training.network.losses import Normal
from totalanvi.training.network.vae import TotalVAE
from totalanvi.training.results.posterior import CellPosterior

__all__ = ["Draw", "draw", "draw_rates"]


class Draw(NamedTuple):
    """z and ℓ as drawn from their posterior, and the parameters of the likelihoods that they give."""

    z: Tensor
    """Before the latent transformation, (cells, latent)."""
    log_library: Tensor | None
    """log ℓ, (cells, 1); `None` where it is observed or a size factor."""
    log_size: Tensor
    """Log of what ρ is multiplied by, (cells, 1)."""
    log_scale: Tensor
    """log ρ, (cells, genes)."""
    dropout_logits: Tensor | None
    """Logits of extra zeros, (cells, genes), under the zero-inflated likelihood."""
    proteins: ProteinParameters
    """Parameters of the protein mixture, (cells, proteins)."""
    gene_log_theta: Tensor
    """Log inverse dispersion, (genes,) or (cells, genes)."""
    protein_log_theta: Tensor
    """Log inverse dispersion, (proteins,) or (cells, proteins)."""


def draw(module: TotalVAE, posterior: CellPosterior, covariates: Covariates | None = None) -> Draw:
    """Draw once from the posterior of each cell of a mini-batch, and decode.

    Parameters
    ----------
    module
        The network, in evaluation mode.
    posterior
        A mini-batch with its posterior.
    covariates
        What to decode with; the cells' own by default.
    """
    covariates = covariates or posterior.covariates
    z = posterior.z.sample()
    log_library = None if posterior.library is None else posterior.library.sample()
    # The network draws ℓ from what it is given; from a point mass it can only draw the value that is already known.
    library = None if log_library is None else Normal(log_library, torch.zeros_like(log_library))
    latent = module.transform(z)
    labels = module.label_weights(latent, posterior.cells.label)
    log_scale, dropout_logits = module.decode_genes(latent, covariates)
    return Draw(
        z=z,
        log_library=log_library,
        log_size=module.log_size(posterior.cells, library),
        log_scale=log_scale,
        dropout_logits=dropout_logits,
        proteins=module.decode_proteins(latent, covariates),
        gene_log_theta=module.gene_log_theta(covariates, labels),
        protein_log_theta=module.protein_log_theta(covariates, labels),
    )


def draw_rates(log_mean: Tensor, log_theta: Tensor) -> Tensor:
    """Draw from Gamma(θ, θ / μ), the rates whose Poisson counts are NB(μ, θ).

    Parameters
    ----------
    log_mean
        log μ, (cells, features).
    log_theta
        log θ, (features,) or (cells, features).

    Returns
    -------
    Tensor
        (cells, features), with mean μ and variance μ² / θ.
    """
    theta = log_theta.exp().expand_as(log_mean)
    standard = torch.distributions.Gamma(theta, torch.ones_like(theta), validate_args=False).sample()
    # By logarithms: for a small θ, the draw may be too small to be multiplied by the large μ / θ.
    return (standard.log() + log_mean - log_theta).exp()
