"""totalVI: one latent space for the RNA and the surface proteins of a cell.

::

    z_n ~ N(0, I)                                     (TotalANVI puts a labelled prior here, see `anvae`)
    ℓ_n observed, or ~ LogNormal
    ρ_n = softmax f(z_n, s_n)                         x_n ~ NB(ℓ_n ρ_n, θ)        s_n: the cell's batch
    log β_nj ~ N(a_j, b_j)                            protein background, prior per panel
    α_nj = 1 + relu g(z_n, s_n)                       foreground: α β
    π_nj = sigmoid h(z_n, s_n)                        probability of background
    y_nj ~ π NB(β, φ_j) + (1 − π) NB(αβ, φ_j)

References
----------
Gayoso, Steier, Lopez, Regier, Nazor, Streets, Yosef: Joint probabilistic modeling of single-cell multi-omic data with
totalVI. Nature Methods 18 (2021).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from totalanvi.training.background import BackgroundPrior
from totalanvi.training.config import Augmentation, ModelConfig
from totalanvi.training.data import CellBatch, SparseRows
from totalanvi.training.inputs import EncoderInputs, hide, hide_batch, scaled_log_counts, scaled_log_proteins
from totalanvi.training.layers import FullyConnected
from totalanvi.training.losses import (
    ElboTerms,
    HiddenTerms,
    Normal,
    efficiency_penalty,
    gene_reconstruction,
    kl_background,
    kl_library,
    kl_normals,
    kl_standard_normal,
    protein_reconstruction,
)

__all__ = ["Dimensions", "ProteinParameters", "TotalVAE"]


@dataclass(frozen=True)
class Dimensions:
    """Sizes that the reference sets."""

    n_genes: int
    n_proteins: int
    n_batches: int
    n_panels: int
    n_labels: int = 0
    n_categories: tuple[int, ...] = ()
    """Categories of each categorical covariate."""
    n_continuous: int = 0
    has_size_factor: bool = False
    """Whether a size factor takes the place of the library size."""


@dataclass(frozen=True)
class ProteinParameters:
    """Parameters of the protein mixture, each (..., proteins)."""

    log_background_mean: Tensor
    """Mean of log β."""
    log_background_scale: Tensor
    """Standard deviation of log β."""
    log_foreground_ratio: Tensor
    """log α: how far the foreground lies above the background."""
    background_logits: Tensor
    """Logits of π."""

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
        return self.foreground_probability * torch.exp(self.log_background + self.log_foreground_ratio)

    def expected(self, log_efficiency: Tensor) -> Tensor:
        """Expected count of the assay, background and the batch's efficiency e included: e ((1 − π) α + π) E[β]."""
        background = torch.sigmoid(self.background_logits) * torch.exp(self.log_background)
        return log_efficiency.exp() * (self.denoised() + background)


class Encoder(nn.Module):
    """q(z | x, y, s), and q(ℓ | x, y, s) where the library is inferred."""

    def __init__(self, dims: Dimensions, config: ModelConfig):
        super().__init__()
        self.n_genes = dims.n_genes
        # RNA has a linear map of its own in the first layer: its input is sparse, and cost can follow stored counts.
        self.rna_in = nn.Linear(dims.n_genes, config.n_hidden, bias=False)
        self.trunk = FullyConnected(
            2 * dims.n_proteins,
            config.n_hidden,
            n_covariates=dims.n_batches if config.encode_covariates else 0,
            n_layers=config.n_layers_encoder,
            dropout=config.dropout_rate_encoder,
            norm=config.norm_encoder,
        )
        self.z_mean = nn.Linear(config.n_hidden, config.n_latent)
        self.z_log_variance = nn.Linear(config.n_hidden, config.n_latent)
        self.library = None if config.use_observed_lib_size else nn.Linear(config.n_hidden, 2)

    def forward(self, inputs: EncoderInputs) -> tuple[Normal, Normal | None]:
        """Posterior of z, (cells, latent), and of log ℓ, (cells, 1), or `None` where ℓ is observed."""
        rna, library = inputs.rna, inputs.library
        if isinstance(rna, SparseRows):
            scaled = scaled_log_counts(rna.values, library.squeeze(-1)[rna.rows], self.n_genes)
            x = rna.with_values(scaled).to_dense()
        else:
            x = scaled_log_counts(rna, library, self.n_genes)
        proteins = torch.cat((scaled_log_proteins(inputs.protein, inputs.measured), inputs.measured), dim=-1)
        hidden = self.trunk(proteins, inputs.batch, offset=self.rna_in(x))
        z = Normal(self.z_mean(hidden), _scale(self.z_log_variance(hidden)))
        if self.library is None:
            return z, None
        mean, log_variance = self.library(hidden).chunk(2, dim=-1)
        return z, Normal(mean.clamp(max=15.0), _scale(log_variance))


def _scale(log_variance: Tensor) -> Tensor:
    return (log_variance.exp() + 1e-4).sqrt()


class GeneDecoder(nn.Module):
    """z, s → log ρ, and the logits of extra zeros under the zero-inflated likelihood."""

    def __init__(self, dims: Dimensions, config: ModelConfig):
        super().__init__()
        self.trunk = _decoder_trunk(dims, config)
        self.log_scale = _head(dims, config, dims.n_genes)
        inflated = config.gene_likelihood == "zinb"
        self.dropout_trunk = _decoder_trunk(dims, config) if inflated else None
        self.dropout_logits = _head(dims, config, dims.n_genes) if inflated else None

    def forward(self, z: Tensor, batch: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map (..., latent) and (..., batches) to log ρ and dropout logits, (..., genes)."""
        hidden = torch.cat((self.trunk(z, batch), z, batch), dim=-1)
        log_scale = torch.log_softmax(self.log_scale(hidden), dim=-1)
        if self.dropout_trunk is None or self.dropout_logits is None:
            return log_scale, None
        return log_scale, self.dropout_logits(torch.cat((self.dropout_trunk(z, batch), z, batch), dim=-1))


class ProteinDecoder(nn.Module):
    """z, s → the parameters of the protein mixture."""

    def __init__(self, dims: Dimensions, config: ModelConfig):
        super().__init__()
        self.background_trunk = _decoder_trunk(dims, config)
        self.background_mean = _head(dims, config, dims.n_proteins)
        self.background_scale = _head(dims, config, dims.n_proteins)
        self.foreground_trunk = _decoder_trunk(dims, config)
        self.foreground_ratio = _head(dims, config, dims.n_proteins)
        self.mixing_trunk = _decoder_trunk(dims, config)
        self.background_logits = _head(dims, config, dims.n_proteins)

    def forward(self, z: Tensor, batch: Tensor) -> ProteinParameters:
        """Map (..., latent) and (..., batches) to parameters of (..., proteins)."""
        background = torch.cat((self.background_trunk(z, batch), z, batch), dim=-1)
        foreground = torch.cat((self.foreground_trunk(z, batch), z, batch), dim=-1)
        mixing = torch.cat((self.mixing_trunk(z, batch), z, batch), dim=-1)
        return ProteinParameters(
            log_background_mean=self.background_mean(background),
            log_background_scale=F.softplus(self.background_scale(background)) + 1e-8,
            log_foreground_ratio=torch.log1p(torch.relu(self.foreground_ratio(foreground)) + 1e-8),
            background_logits=self.background_logits(mixing),
        )


def _decoder_trunk(dims: Dimensions, config: ModelConfig) -> FullyConnected:
    return FullyConnected(
        config.n_latent,
        config.n_hidden,
        n_covariates=dims.n_batches,
        n_layers=config.n_layers_decoder,
        dropout=config.dropout_rate_decoder,
        norm=config.norm_decoder,
    )


def _head(dims: Dimensions, config: ModelConfig, n_out: int) -> nn.Linear:
    """A linear map that sees the trunk's output, z itself and the batch."""
    return nn.Linear(config.n_hidden + config.n_latent + dims.n_batches, n_out)


class TotalVAE(nn.Module):
    """totalVI as a torch module: `encode`, `decode_genes`, `decode_proteins`, and the terms of its ELBO.

    Parameters
    ----------
    dims
        Sizes that the reference sets.
    config
        Architecture.
    background
        Initial prior of the protein background per panel; drawn wide when `None`.
    library_prior
        Mean and variance of log ℓ per batch, (batches, 2); needed when the library is inferred.
    """

    def __init__(
        self,
        dims: Dimensions,
        config: ModelConfig,
        background: BackgroundPrior | None = None,
        library_prior: Tensor | None = None,
    ):
        super().__init__()
        self.dims = dims
        self.config = config
        self.encoder = Encoder(dims, config)
        self.gene_decoder = GeneDecoder(dims, config)
        self.protein_decoder = ProteinDecoder(dims, config)
        shape = (dims.n_proteins, dims.n_panels)
        background = background or BackgroundPrior.wide(*shape)
        self.background_pro_alpha = nn.Parameter(torch.as_tensor(background.mean, dtype=torch.float32))
        self.background_pro_log_beta = nn.Parameter(torch.as_tensor(np.log(background.scale), dtype=torch.float32))
        self.log_per_batch_efficiency = nn.Parameter(torch.zeros(dims.n_proteins, dims.n_batches))
        self.px_r = nn.Parameter(torch.randn(dims.n_genes))
        self.py_r = nn.Parameter(2.0 * torch.rand(dims.n_proteins))
        prior = torch.zeros(dims.n_batches, 2) if library_prior is None else library_prior
        self.register_buffer("library_prior", prior)

    library_prior: Tensor

    # Inference

    def encode(self, inputs: EncoderInputs) -> tuple[Normal, Normal | None]:
        """q(z | x, y, s) before the latent transformation, and q(log ℓ) where the library is inferred."""
        posterior: tuple[Normal, Normal | None] = self.encoder(inputs)
        return posterior

    def transform(self, z: Tensor) -> Tensor:
        """The latent transformation: identity, or softmax under the logistic normal."""
        return torch.softmax(z, dim=-1) if self.config.latent_distribution == "ln" else z

    # Generation

    def decode_genes(self, latent: Tensor, batch: Tensor) -> tuple[Tensor, Tensor | None]:
        """Log ρ and dropout logits, (..., genes), of transformed latents, (..., latent)."""
        genes: tuple[Tensor, Tensor | None] = self.gene_decoder(latent, batch)
        return genes

    def decode_proteins(self, latent: Tensor, batch: Tensor) -> ProteinParameters:
        """Parameters of the protein mixture for transformed latents, (..., latent)."""
        proteins: ProteinParameters = self.protein_decoder(latent, batch)
        return proteins

    def log_efficiency(self, batch: Tensor) -> Tensor:
        """Log of how efficiently each batch captures each protein, (..., proteins)."""
        return batch @ self.log_per_batch_efficiency.t()

    # Objective

    def forward(self, cells: CellBatch, unknown_batch: float = 0.0) -> ElboTerms:
        """Terms of the ELBO of each cell, with one draw from the posterior.

        Parameters
        ----------
        cells
            A mini-batch.
        unknown_batch
            Share of the cells whose batch is hidden from the encoder; the decoders always know it.
        """
        inputs = EncoderInputs.of(cells, self.dims.n_batches)
        q_z, q_library = self.encode(hide_batch(inputs, unknown_batch) if unknown_batch > 0 else inputs)
        z = q_z.sample()
        latent = self.transform(z)

        log_library = cells.library.clamp(min=1.0).log() if q_library is None else q_library.sample()
        log_scale, dropout_logits = self.decode_genes(latent, inputs.batch)
        proteins = self.decode_proteins(latent, inputs.batch)

        return ElboTerms(
            reconstruction_gene=gene_reconstruction(cells.rna, log_library + log_scale, self.px_r, dropout_logits),
            reconstruction_protein=self._protein_reconstruction(cells, proteins, inputs.batch),
            kl_library=None if q_library is None else kl_library(q_library, self.library_prior[cells.batch]),
            kl_background=kl_background(
                Normal(proteins.log_background_mean, proteins.log_background_scale),
                Normal(self.background_pro_alpha.t()[cells.panel], self.background_pro_log_beta.t()[cells.panel].exp()),
                cells.measured,
            )
            + efficiency_penalty(self.log_efficiency(inputs.batch), cells.measured),
            posterior=q_z,
            latent=latent,
            **self.latent_terms(q_z, z, latent, cells.label),
        )

    def hidden_view(self, cells: CellBatch, posterior: Normal, rates: Augmentation) -> HiddenTerms:
        r"""What the encoder makes of the same cells when it sees less of them, as it will of queries.

        .. math::

            \mathrm{KL}(q(z \mid x, y, s) \| q(z \mid \tilde{x}, \tilde{y}))
                - \mathbb{E}_{q(z \mid \tilde{x}, \tilde{y})} \log p(y \mid z, s)

        On average over what is hidden, the first term is least where the partial posterior is the mixture of all full
        posteriors that agree with what is seen: as wide as what RNA leaves open about the proteins. The full posterior
        gets no gradient from it.

        Parameters
        ----------
        cells
            A mini-batch.
        posterior
            q(z | x, y, s) of these cells.
        rates
            What to hide.
        """
        inputs = EncoderInputs.of(cells, self.dims.n_batches)
        q_hidden, _ = self.encode(hide(inputs, rates))
        latent = self.transform(q_hidden.sample())
        proteins = self.decode_proteins(latent, inputs.batch)
        target = Normal(posterior.mean.detach(), posterior.scale.detach())
        return HiddenTerms(
            matching=kl_normals(target, q_hidden).sum(dim=-1),
            reconstruction_protein=self._protein_reconstruction(cells, proteins, inputs.batch),
            label_logits=self.label_logits(latent),
        )

    def label_logits(self, latent: Tensor) -> Tensor | None:
        """Logits of q(c | z), (cells, labels); totalVI has none."""
        return None

    def _protein_reconstruction(self, cells: CellBatch, proteins: ProteinParameters, batch: Tensor) -> Tensor:
        return protein_reconstruction(
            cells.protein,
            cells.measured,
            log_background=proteins.sample_log_background() + self.log_efficiency(batch),
            log_foreground_ratio=proteins.log_foreground_ratio,
            log_theta=self.py_r,
            background_logits=proteins.background_logits,
        )

    def latent_terms(self, q_z: Normal, z: Tensor, latent: Tensor, label: Tensor) -> dict[str, Tensor]:
        """KL terms of the latent space, here KL(q(z) ‖ N(0, I)); TotalANVI has its own."""
        return {"kl_latent": kl_standard_normal(q_z)}
