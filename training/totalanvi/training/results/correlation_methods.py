"""The question how features vary together: `get_feature_correlation_matrix`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pandas as pd

from totalanvi.training.base import BaseModel
from totalanvi.training.checks import as_choice, as_number, as_whole, require_flags
from totalanvi.training.errors import ArgumentError
from totalanvi.training.registration.codes import Batches
from totalanvi.training.registration.setup_note import Data
from totalanvi.training.results.arguments import cells_in_batch
from totalanvi.training.results.correlation import CorrelationOptions, feature_correlation

__all__ = ["CorrelationMethods"]


class CorrelationMethods(BaseModel):
    """Correlations of denoised features."""

    def get_feature_correlation_matrix(
        self,
        adata: Data | None = None,
        indices: Sequence[int] | None = None,
        n_samples: int = 10,
        batch_size: int | None = 64,
        rna_size_factor: float = 1000,
        transform_batch: Batches | None = None,
        correlation_type: Literal["spearman", "pearson"] = "spearman",
        log_transform: bool = False,
        silent: bool = True,
    ) -> pd.DataFrame:
        """Correlation of all genes and proteins over cells, without the noise of counting and without background.

        Features are drawn from the posterior as `totalanvi.training.results.correlation` writes them down, several
        times for each cell, and correlated over all these draws. Pearson's correlation is that of all of them together.
        Ranks, for Spearman's, are taken among 4,096 random draws at a time and the correlations averaged: up to so many
        draws (cells times samples) it is exactly that of all, beyond it the difference is far below that between two
        runs. Memory is that of the result, of one mini-batch and of those draws.

        Parameters
        ----------
        adata, indices
            As in `get_latent_representation`.
        n_samples
            Draws from the posterior of each cell.
        batch_size
            Cells in a mini-batch.
        rna_size_factor
            Library size that all cells are given.
        transform_batch
            Batch, by name or code, to decode as; over several, correlations are averaged; each cell's own by default.
        correlation_type
            ``"spearman"`` or ``"pearson"``.
        log_transform
            Take logarithms first: of genes with 1e-8, of proteins with 1 added.
        silent
            Without meaning here, taken for the sake of scripts.

        Returns
        -------
        pandas.DataFrame
            (genes + proteins, genes + proteins), float64, from −1 to 1; NaN with a feature that never varies.

        Raises
        ------
        ArgumentError
            For less than one sample, or one draw in all; for a library size that is not above 0; for an unknown batch
            or type of correlation; for cells as `get_latent_representation`.

        Examples
        --------
        >>> model.get_feature_correlation_matrix(correlation_type="pearson").loc["CD8A", "CD8"]  # doctest: +SKIP

        References
        ----------
        Gayoso, Steier et al., Nature Methods 18 (2021), Methods: correlations of denoised features.
        """
        require_flags(silent=silent)
        cells, _ = self._cells_of(adata, indices)
        options = CorrelationOptions(
            n_samples=as_whole("n_samples", n_samples, 1),
            rna_size_factor=as_number("rna_size_factor", rna_size_factor, above=0, cure="1000 is the usual one"),
            decode_as=self._batch_codes(transform_batch),
            by_rank=as_choice("correlation_type", correlation_type, ("spearman", "pearson")) == "spearman",
            log_transform=log_transform,
        )
        if len(cells) * options.n_samples < 2:
            raise ArgumentError(
                "n_samples: expected two draws or more to correlate, found one of a single cell; draw more often, or "
                "take more cells."
            )
        correlation = feature_correlation(self.module, cells, options, cells_in_batch(batch_size))
        names = [*self.registry.genes, *self.registry.proteins]
        return pd.DataFrame(correlation, index=names, columns=names)
