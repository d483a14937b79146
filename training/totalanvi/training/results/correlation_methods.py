"""The question how features vary together: `get_feature_correlation_matrix`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pandas as pd

from totalanvi.training.base import BaseModel
from totalanvi.training.errors import ArgumentError
from totalanvi.training.registration.setup_note import Data
from totalanvi.training.results.arguments import at_least_one, cells_in_batch
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
        transform_batch: str | int | Sequence[str | int] | None = None,
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
        cells, _ = self._cells_of(adata, indices)
        options = CorrelationOptions(
            n_samples=at_least_one("n_samples", n_samples),
            rna_size_factor=_above_zero(rna_size_factor),
            decode_as=self._batch_codes(transform_batch),
            by_rank=_by_rank(correlation_type),
            log_transform=log_transform,
        )
        if len(cells) * n_samples < 2:
            raise ArgumentError(
                "n_samples: expected two draws or more to correlate, found one of a single cell; draw more often, or "
                "take more cells."
            )
        correlation = feature_correlation(self.module, cells, options, cells_in_batch(batch_size))
        names = [*self.registry.genes, *self.registry.proteins]
        return pd.DataFrame(correlation, index=names, columns=names)


def _above_zero(rna_size_factor: float) -> float:
    if not 0 < rna_size_factor < float("inf"):
        raise ArgumentError(
            f"rna_size_factor: expected a number above 0, found {rna_size_factor}; 1000 is the usual one."
        )
    return rna_size_factor


def _by_rank(correlation_type: str) -> bool:
    if correlation_type not in ("spearman", "pearson"):
        raise ArgumentError(
            f"correlation_type: expected 'spearman' or 'pearson', found {correlation_type!r}; choose one of them."
        )
    return correlation_type == "spearman"
