"""The decoders: z and covariates → the parameters of the likelihoods."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from totalanvi.training.network.config import ModelConfig
from totalanvi.training.network.covariates import Covariates
from totalanvi.training.network.dimensions import Dimensions
from totalanvi.training.network.layers import FullyConnected, Head

__all__ = ["GeneDecoder", "ProteinDecoder", "ProteinParameters"]


@dataclass(frozen=True)
class ProteinParameters:
    """Parameters of the protein mixture, each (..., proteins)."""

    log_background_mean: Tensor
    """Mean of log β."""
    log_background_scale: Tensor
    """Standard deviation of log β."""
    foreground_excess: Tensor
    """α − 1: how far the foreground lies above the background, in backgrounds."""
    background_logits: Tensor
    """Logits of π."""

    @property
    def log_foreground_ratio(self) -> Tensor:
        """Log α."""
        return torch.log1p(self.foreground_excess)

    @property
    def log_background(self) -> Tensor:
        """Log of the expected background E[β] = exp(mean + scale² / 2), the mean of a log-normal."""
        return self.log_background_mean + 0.5 * self.log_background_scale.square()

    def sample_log_background(self) -> Tensor:
        """Draw log β with a gradient to its parameters."""
        noise = torch.randn_like(self.log_background_mean)
        return self.log_background_mean + self.log_background_scale * noise

    @property
    def foreground_probability(self) -> Tensor:
        """1 − π."""
        return torch.sigmoid(-self.background_logits)

    def denoised(self) -> Tensor:
        """Expected count without background, (1 − π) α E[β]."""
        return self.foreground_probability * torch.exp(self.log_background) * (1 + self.foreground_excess)

    def expected(self, log_efficiency: Tensor) -> Tensor:
        """Expected count of the assay, background and the batch's efficiency e included: e ((1 − π) α + π) E[β]."""
        background = torch.sigmoid(self.background_logits) * torch.exp(self.log_background)
        return log_efficiency.exp() * (self.denoised() + background)


class _Trunk(FullyConnected):
    """z, with the continuous covariates beside it → hidden features."""

    def __init__(self, dims: Dimensions, config: ModelConfig):
        super().__init__(
            config.n_latent + dims.n_continuous,
            config.n_hidden,
            n_covariates=dims.n_injected,
            n_layers=config.n_layers_decoder,
            dropout=config.dropout_rate_decoder,
            norm=config.norm_decoder,
        )


def _head(dims: Dimensions, config: ModelConfig, n_out: int) -> Head:
    """A linear map that sees the trunk's output, z itself and the covariates."""
    return Head(config.n_hidden + config.n_latent + dims.n_continuous + dims.n_injected, n_out)


class GeneDecoder(nn.Module):
    """z, s → log ρ, and the logits of extra zeros under the zero-inflated likelihood.

    ρ sums to 1 over the genes where a library size multiplies it. A size factor is on no such scale: with one, ρ is
    only positive.
    """

    def __init__(self, dims: Dimensions, config: ModelConfig):
        super().__init__()
        self.sums_to_one = not dims.has_size_factor
        self.trunk = _Trunk(dims, config)
        self.log_scale = _head(dims, config, dims.n_genes)
        inflated = config.gene_likelihood == "zinb"
        self.dropout_trunk = _Trunk(dims, config) if inflated else None
        self.dropout_logits = _head(dims, config, dims.n_genes) if inflated else None

    @property
    def is_plain(self) -> bool:
        """Whether all that a gene's likelihood needs is ρ, the softmax of `logits`."""
        return self.sums_to_one and self.dropout_logits is None

    @contextmanager
    def lying_by_features(self) -> Iterator[None]:
        """Let the weights of a feature lie side by side in memory, as `counts_of_features` makes their gradient.

        They do while the block runs: how they lie is told in the last bits of what is computed from them.
        """
        weight = self.log_scale.weight
        weight.data = weight.data.t().contiguous().t()
        try:
            yield
        finally:
            weight.data = weight.data.contiguous()

    def features(self, z: Tensor, covariates: Covariates) -> Tensor:
        """Map (..., latent) to what the last layer sees, (..., features)."""
        z, injected = covariates.beside(z), covariates.injected
        return torch.cat((self.trunk(z, injected), z, injected), dim=-1)

    def logits(self, z: Tensor, covariates: Covariates) -> Tensor:
        """Map (..., latent) to what ρ is the softmax, or the softplus, of, (..., genes)."""
        logits: Tensor = self.log_scale(self.features(z, covariates))
        return logits

    def forward(self, z: Tensor, covariates: Covariates) -> tuple[Tensor, Tensor | None]:
        """Map (..., latent) to log ρ and dropout logits, (..., genes)."""
        scale = self.logits(z, covariates)
        log_scale = torch.log_softmax(scale, dim=-1) if self.sums_to_one else _log_softplus(scale)
        if self.dropout_trunk is None or self.dropout_logits is None:
            return log_scale, None
        z, injected = covariates.beside(z), covariates.injected
        return log_scale, self.dropout_logits(torch.cat((self.dropout_trunk(z, injected), z, injected), dim=-1))


class ProteinDecoder(nn.Module):
    """z, s → the parameters of the protein mixture."""

    def __init__(self, dims: Dimensions, config: ModelConfig):
        super().__init__()
        self.scale_is_exponential = config.background_activation == "exp"
        self.background_trunk = _Trunk(dims, config)
        self.background_mean = _head(dims, config, dims.n_proteins)
        self.background_scale = _head(dims, config, dims.n_proteins)
        self.foreground_trunk = _Trunk(dims, config)
        self.foreground_ratio = _head(dims, config, dims.n_proteins)
        self.mixing_trunk = _Trunk(dims, config)
        self.background_logits = _head(dims, config, dims.n_proteins)

    def forward(self, z: Tensor, covariates: Covariates) -> ProteinParameters:
        """Map (..., latent) to parameters of (..., proteins)."""
        z, injected = covariates.beside(z), covariates.injected
        background = torch.cat((self.background_trunk(z, injected), z, injected), dim=-1)
        foreground = torch.cat((self.foreground_trunk(z, injected), z, injected), dim=-1)
        mixing = torch.cat((self.mixing_trunk(z, injected), z, injected), dim=-1)
        scale = self.background_scale(background)
        return ProteinParameters(
            log_background_mean=self.background_mean(background),
            log_background_scale=(scale.exp() if self.scale_is_exponential else F.softplus(scale)) + 1e-8,
            foreground_excess=torch.relu(self.foreground_ratio(foreground)) + 1e-8,
            background_logits=self.background_logits(mixing),
        )


def _log_softplus(x: Tensor) -> Tensor:
    """``log softplus(x)``, which is x itself far below 0, where the softplus would vanish."""
    return torch.where(x > -15.0, F.softplus(x.clamp(min=-15.0)).log(), x)
