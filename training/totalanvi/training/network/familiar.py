"""Attributes of the network under the names that scripts written for scvi-tools read."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import nn

from totalanvi.training.network.config import ModelConfig
from totalanvi.training.network.dimensions import Dimensions
from totalanvi.training.network.library import infers_library

__all__ = ["FamiliarNames"]


class FamiliarNames(nn.Module):
    """Read-only views of a network's sizes and options."""

    dims: Dimensions
    config: ModelConfig
    protein_batch_mask: dict[str, npt.NDArray[np.bool_]] | None = None
    """By panel code: which proteins it measures; `None` where all panels measure all."""

    @property
    def n_latent(self) -> int:
        """Dimensions of the latent space."""
        return self.config.n_latent

    @property
    def n_input_genes(self) -> int:
        """Number of genes."""
        return self.dims.n_genes

    @property
    def n_input_proteins(self) -> int:
        """Number of proteins."""
        return self.dims.n_proteins

    @property
    def n_batch(self) -> int:
        """Number of batches."""
        return self.dims.n_batches

    @property
    def n_panel(self) -> int:
        """Number of panels."""
        return self.dims.n_panels

    @property
    def n_labels(self) -> int:
        """Number of labels."""
        return self.dims.n_labels

    @property
    def gene_likelihood(self) -> str:
        """``"nb"`` or ``"zinb"``."""
        return self.config.gene_likelihood

    @property
    def gene_dispersion(self) -> str:
        """What a gene's dispersion differs by."""
        return self.config.gene_dispersion

    @property
    def protein_dispersion(self) -> str:
        """What a protein's dispersion differs by."""
        return self.config.protein_dispersion

    @property
    def latent_distribution(self) -> str:
        """``"normal"`` or ``"ln"``."""
        return self.config.latent_distribution

    @property
    def use_size_factor_key(self) -> bool:
        """Whether a size factor takes the place of the library size."""
        return self.dims.has_size_factor

    @property
    def use_observed_lib_size(self) -> bool:
        """Whether nothing is inferred about the library size."""
        return not infers_library(self.config, self.dims)
