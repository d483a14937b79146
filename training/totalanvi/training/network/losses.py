r"""The evidence lower bound, one term a function.

.. math::

    \mathcal{L}_n = \mathbb{E}_q[\log p(x_n, y_n \mid z, ℓ)]
        - \mathrm{KL}(q(z) \| p(z)) - \mathrm{KL}(q(ℓ) \| p(ℓ)) - \mathrm{KL}(q(β) \| p(β))

Every function returns one value per cell, (cells,), to be minimised: negative log-likelihoods and divergences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from totalanvi.training.data import SparseRows
from totalanvi.training.network.distributions import (
    log_negative_binomial_rows,
    log_protein_mixture,
    log_zero_inflated_rows,
)

__all__ = [
    "ElboTerms",
    "HiddenTerms",
    "Normal",
    "efficiency_penalty",
    "gene_reconstruction",
    "kl_background",
    "kl_library",
    "kl_normals",
    "kl_standard_normal",
    "log_normal",
    "protein_reconstruction",
]

_HALF_LOG_TWO_PI = 0.9189385332046727


class Normal(NamedTuple):
    """A diagonal Gaussian by its mean and standard deviation; nothing is validated: it exports as arithmetic."""

    mean: Tensor
    scale: Tensor

    def sample(self) -> Tensor:
        """Draw once, with a gradient to the parameters."""
        return self.mean + self.scale * torch.randn_like(self.mean)


@dataclass(frozen=True)
class ElboTerms:
    """What the objective of one mini-batch is made of, each (cells,)."""

    reconstruction_gene: Tensor
    reconstruction_protein: Tensor
    kl_latent: Tensor
    kl_background: Tensor
    efficiency_penalty: Tensor
    """A prior of parameters: part of the objective, no part of the ELBO."""
    posterior: Normal
    """q(z | x, y)."""
    latent: Tensor
    """The drawn latents, (cells, latent), for terms that look at them."""
    kl_library: Tensor | None = None
    kl_label: Tensor | None = None
    label_logits: Tensor | None = None
    """Logits of q(c | z), (cells, labels)."""

    @property
    def kl_local(self) -> Tensor:
        """Sum of the divergences that warm up with the penalty, (cells,)."""
        total = self.kl_latent + self.kl_background
        return total if self.kl_label is None else total + self.kl_label

    @property
    def negative_elbo(self) -> Tensor:
        """Sum of the negative log-likelihoods and of all divergences, (cells,)."""
        total = self.reconstruction_gene + self.reconstruction_protein + self.kl_local
        return total if self.kl_library is None else total + self.kl_library

    def loss(self, kl_weight: float | Tensor = 1.0, protein_weight: float | Tensor = 1.0) -> Tensor:
        """Weighted sum of the terms, (cells,); the negative ELBO and the penalty when both weights are 1."""
        warming_up = self.kl_local + self.efficiency_penalty
        total = self.reconstruction_gene + protein_weight * self.reconstruction_protein + kl_weight * warming_up
        return total if self.kl_library is None else total + self.kl_library


@dataclass(frozen=True)
class HiddenTerms:
    """What is asked of the posterior that sees a part of a cell only, each (cells,)."""

    matching: Tensor
    """KL from the posterior that sees everything."""
    reconstruction_protein: Tensor
    """Negative log-probability of the measured proteins, the hidden ones included."""
    label_logits: Tensor | None
    """Logits of q(c | z), (cells, labels)."""

    def loss(self, matching_weight: float, protein_weight: float | Tensor) -> Tensor:
        """Weighted sum, (cells,)."""
        return matching_weight * self.matching + protein_weight * self.reconstruction_protein


def log_normal(value: Tensor, normal: Normal) -> Tensor:
    """Log-density of a diagonal Gaussian, summed over the last axis."""
    standardised = (value - normal.mean) / normal.scale
    return (-0.5 * standardised.square() - normal.scale.log() - _HALF_LOG_TWO_PI).sum(dim=-1)


def kl_normals(q: Normal, p: Normal) -> Tensor:
    """KL(q ‖ p) of Gaussians, elementwise: ``log σ_p/σ_q + (σ_q² + (μ_q − μ_p)²) / 2σ_p² − ½``."""
    variance_ratio = (q.scale / p.scale).square()
    return 0.5 * (variance_ratio + ((q.mean - p.mean) / p.scale).square() - 1.0 - variance_ratio.log())


def kl_standard_normal(q: Normal) -> Tensor:
    """KL(q ‖ N(0, I)), summed over the latent dimensions."""
    return 0.5 * (q.scale.square() + q.mean.square() - 1.0 - 2.0 * q.scale.log()).sum(dim=-1)


def kl_library(q: Normal, prior: Normal) -> Tensor:
    """KL of the inferred log library to its batch's prior, both (cells, 1)."""
    return kl_normals(q, prior).sum(dim=-1)


def kl_background(q: Normal, prior: Normal, measured: Tensor) -> Tensor:
    """KL of the log protein background to its panel's prior, over the measured proteins."""
    return (kl_normals(q, prior) * measured).sum(dim=-1)


def efficiency_penalty(log_efficiency: Tensor, measured: Tensor) -> Tensor:
    """Negative log-density of the log protein efficiencies of a cell's batch under N(0, 1), up to a constant.

    The density is taken over the logarithm, whose mode is an efficiency of 1: with a single batch, where efficiency and
    background cannot be told apart, it stays there.
    """
    return (0.5 * log_efficiency.square() * measured).sum(dim=-1)


def gene_reconstruction(rows: SparseRows, log_mean: Tensor, log_theta: Tensor, dropout_logits: Tensor | None) -> Tensor:
    """``−log p(x | z, ℓ)``: negative binomial, zero-inflated where there are dropout logits."""
    if dropout_logits is None:
        return -log_negative_binomial_rows(rows, log_mean, log_theta)
    return -log_zero_inflated_rows(rows, log_mean, log_theta, dropout_logits)


def protein_reconstruction(
    counts: Tensor,
    measured: Tensor,
    log_background: Tensor,
    log_foreground_ratio: Tensor,
    log_theta: Tensor,
    background_logits: Tensor,
) -> Tensor:
    """``−log p(y | z, β)`` over the measured proteins: the background/foreground mixture."""
    log_probability = log_protein_mixture(
        counts, log_background, log_background + log_foreground_ratio, log_theta, background_logits
    )
    return -(log_probability * measured).sum(dim=-1)
