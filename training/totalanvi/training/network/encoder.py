"""The encoder: counts → the posteriors of z and, where the library is inferred, of ℓ."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from totalanvi.training.data import SparseRows
from totalanvi.training.network.config import ModelConfig
from totalanvi.training.network.covariates import Covariates
from totalanvi.training.network.dimensions import Dimensions
from totalanvi.training.network.inputs import EncoderInputs, scaled_counts, scaled_proteins
from totalanvi.training.network.layers import FullyConnected, Head
from totalanvi.training.network.library import infers_library
from totalanvi.training.network.losses import Normal
from totalanvi.training.network.sparse_linear import SparseLinear

__all__ = ["Encoder"]

_LEAST_VARIANCE = 1e-4


class _Stack(nn.Module):
    """Scaled counts and covariates → hidden features.

    RNA has a linear map of its own in the first layer: its input is sparse, and cost follows stored counts.
    """

    def __init__(self, dims: Dimensions, config: ModelConfig, n_layers: int):
        super().__init__()
        self.encodes_covariates = config.encode_covariates
        self.rna_in = SparseLinear(dims.n_genes, config.n_hidden)
        self.trunk = FullyConnected(
            2 * dims.n_proteins + (dims.n_continuous if config.encode_covariates else 0),
            config.n_hidden,
            n_covariates=dims.n_injected if config.encode_covariates else 0,
            n_layers=n_layers,
            dropout=config.dropout_rate_encoder,
            norm=config.norm_encoder,
        )

    def hidden(self, rna: Tensor, proteins: Tensor, inputs: EncoderInputs) -> Tensor:
        """Map what ``rna_in`` made of the RNA, (cells, hidden), and protein features to (cells, hidden)."""
        features, injected = proteins, None
        if self.encodes_covariates:
            features, injected = inputs.covariates.beside(proteins), inputs.covariates.injected
        hidden: Tensor = self.trunk(features, injected, offset=rna)
        return hidden


class _LibraryEncoder(_Stack):
    """q(log ℓ | x, y, s), with a stack of its own."""

    def __init__(self, dims: Dimensions, config: ModelConfig):
        super().__init__(dims, config, n_layers=1)
        self.mean = Head(config.n_hidden, 1)
        self.log_variance = Head(config.n_hidden, 1)

    def forward(self, rna: Tensor, proteins: Tensor, inputs: EncoderInputs) -> Normal:
        hidden = self.hidden(rna, proteins, inputs)
        return Normal(self.mean(hidden), _scale(self.log_variance(hidden)))


class Encoder(_Stack):
    """q(z | x, y, s), and q(log ℓ | x, y, s) where the library is inferred."""

    def __init__(self, dims: Dimensions, config: ModelConfig):
        super().__init__(dims, config, config.n_layers_encoder)
        self.n_genes = dims.n_genes
        self.takes_log = config.log_variational
        self.divides = config.scale_inputs
        self.proteins_in_mean = dims.n_proteins if config.protein_mean == "all" else None
        self.z_mean = Head(config.n_hidden, config.n_latent)
        self.z_log_variance = Head(config.n_hidden, config.n_latent)
        self.library = _LibraryEncoder(dims, config) if infers_library(config, dims) else None

    def forward(self, inputs: EncoderInputs) -> tuple[Normal, Normal | None]:
        """Posterior of z, (cells, latent), and of log ℓ, (cells, 1), or `None` where ℓ is observed."""
        rna, *library_rna = inputs.rna_hidden or self._rna_hidden(inputs)
        proteins = self._protein_features(inputs)
        z = self._posterior(rna, proteins, inputs)
        return z, None if self.library is None else self.library(*library_rna, proteins, inputs)

    def after_rna(self, rna: Tensor, inputs: EncoderInputs) -> Normal:
        """Posterior of z from what ``rna_in`` made of the RNA, (cells, hidden); ``inputs.rna`` is not looked at."""
        return self._posterior(rna, self._protein_features(inputs), inputs)

    def after_rna_of_panel(self, rna: Tensor, protein: Tensor, panel: Tensor, covariates: Covariates) -> Tensor:
        """Posterior mean of z, (cells, latent), of cells that differ in their counts alone.

        Parameters
        ----------
        rna
            What ``rna_in`` made of the RNA, (cells, hidden).
        protein
            Counts, (cells, proteins); 0 where not measured.
        panel
            1 where measured, else 0, (1, proteins).
        covariates
            As `EncoderInputs` has them, (1, ...).
        """
        scaled = scaled_proteins(protein, panel, self.takes_log, self.proteins_in_mean, self.divides)
        known = covariates if self.encodes_covariates else None
        shared = panel if known is None else known.beside(panel)
        hidden = self.trunk.of_shared(scaled, shared, None if known is None else known.injected, offset=rna)
        mean: Tensor = self.z_mean(hidden)
        return mean

    def read_rna(self, inputs: EncoderInputs) -> EncoderInputs:
        """Take RNA through the first layers, once for all views that differ in other things; not a second time."""
        return inputs if inputs.rna_hidden is not None else replace(inputs, rna_hidden=self._rna_hidden(inputs))

    def _rna_hidden(self, inputs: EncoderInputs) -> tuple[Tensor, ...]:
        rna = self._scaled_rna(inputs)
        return (self.rna_in(rna),) if self.library is None else (self.rna_in(rna), self.library.rna_in(rna))

    def _scaled_rna(self, inputs: EncoderInputs) -> SparseRows | Tensor:
        rna, library = inputs.rna, inputs.library
        if not isinstance(rna, SparseRows):
            return scaled_counts(rna, library, self.n_genes, self.takes_log, self.divides)
        per_value = library.squeeze(-1)[rna.rows]
        scaled = scaled_counts(rna.values, per_value, self.n_genes, self.takes_log, self.divides)
        return rna.with_values(scaled)

    def _protein_features(self, inputs: EncoderInputs) -> Tensor:
        scaled = scaled_proteins(inputs.protein, inputs.measured, self.takes_log, self.proteins_in_mean, self.divides)
        return torch.cat((scaled, inputs.measured), dim=-1)

    def _posterior(self, rna: Tensor, proteins: Tensor, inputs: EncoderInputs) -> Normal:
        hidden = self.hidden(rna, proteins, inputs)
        return Normal(self.z_mean(hidden), _scale(self.z_log_variance(hidden)))


def _scale(log_variance: Tensor) -> Tensor:
    return (log_variance.exp() + _LEAST_VARIANCE).sqrt()
