"""The questions that users ask a trained model; each answer has a file of its own beside this one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from totalanvi.training.base import BaseModel, Data
from totalanvi.training.errors import ArgumentError
from totalanvi.training.results.expression import ExpressionOptions, foreground_probability, normalized_expression
from totalanvi.training.results.latent import latent_representation

__all__ = ["DEFAULT_BATCH_SIZE", "ResultMethods"]

DEFAULT_BATCH_SIZE = 256


class ResultMethods(BaseModel):
    """Results of totalVI and TotalANVI alike."""

    def get_latent_representation(
        self,
        adata: Data | None = None,
        indices: Sequence[int] | None = None,
        give_mean: bool = True,
        batch_size: int | None = None,
    ) -> npt.NDArray[np.float32]:
        """Where cells lie in the latent space.

        Parameters
        ----------
        adata
            Cells with the reference's features and columns; the reference itself by default.
        indices
            Positions of the cells wanted; all by default.
        give_mean
            The posterior mean, or else one draw.
        batch_size
            Cells in a mini-batch.

        Returns
        -------
        numpy.ndarray
            (cells, latent).

        Raises
        ------
        RegistrationError
            When ``adata`` lacks features or columns, or has a batch that the model does not know.
        CountsError
            When its values are not raw counts.
        ArgumentError
            When there is no such cell, or no data at all.
        """
        cells, _ = self._cells_of(adata, indices)
        return latent_representation(self.module, cells, give_mean, batch_size or DEFAULT_BATCH_SIZE)

    def get_normalized_expression(
        self,
        adata: Data | None = None,
        indices: Sequence[int] | None = None,
        transform_batch: str | int | Sequence[str | int] | None = None,
        gene_list: Sequence[str] | None = None,
        protein_list: Sequence[str] | None = None,
        library_size: float | Literal["latent"] = 1.0,
        n_samples: int = 1,
        sample_protein_mixing: bool = False,
        scale_protein: bool = False,
        include_protein_background: bool = False,
        batch_size: int | None = None,
        return_mean: bool = True,
        return_numpy: bool | None = None,
    ) -> tuple[pd.DataFrame, pd.DataFrame] | tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Denoised expression: genes as ``library_size · ρ``, proteins as ``(1 − π) α E[β]``.

        Parameters
        ----------
        adata, indices, batch_size
            As in `get_latent_representation`.
        transform_batch
            Batch, by name or code, to decode as; several are averaged; each cell's own by default.
        gene_list, protein_list
            Features wanted; all by default, none for an empty list.
        library_size
            Scale of gene expression, or ``"latent"`` for each cell's own library.
        n_samples
            Draws from the posterior.
        sample_protein_mixing
            Draw whether a protein is background instead of weighing it.
        scale_protein
            Make a cell's proteins sum to 1.
        include_protein_background
            Add the background, ``π E[β]``.
        return_mean
            Average over draws; otherwise they are a last axis.
        return_numpy
            Arrays instead of frames.

        Returns
        -------
        genes, proteins
            (cells, genes) and (cells, proteins), with a last axis of samples when ``return_mean`` is false.

        Raises
        ------
        ArgumentError
            For batches or features that the model does not know; for cells as `get_latent_representation`.
        """
        cells, names = self._cells_of(adata, indices)
        options = ExpressionOptions(
            genes=_chosen(gene_list, self.registry.genes, "gene"),
            proteins=_chosen(protein_list, self.registry.proteins, "protein"),
            decode_as=self._batch_codes(transform_batch),
            n_samples=_at_least_one(n_samples),
            return_mean=return_mean or n_samples == 1,
            library_size=library_size,
            sample_protein_mixing=sample_protein_mixing,
            scale_protein=scale_protein,
            include_protein_background=include_protein_background,
        )
        genes, proteins = normalized_expression(self.module, cells, options, batch_size or DEFAULT_BATCH_SIZE)
        if return_numpy or genes.ndim == 3:
            return genes, proteins
        gene_names = np.asarray(self.registry.genes)[options.genes]
        protein_names = np.asarray(self.registry.proteins)[options.proteins]
        return (
            pd.DataFrame(genes, index=names, columns=gene_names),
            pd.DataFrame(proteins, index=names, columns=protein_names),
        )

    def get_protein_foreground_probability(
        self,
        adata: Data | None = None,
        indices: Sequence[int] | None = None,
        transform_batch: str | int | Sequence[str | int] | None = None,
        protein_list: Sequence[str] | None = None,
        n_samples: int = 1,
        batch_size: int | None = None,
        return_mean: bool = True,
        return_numpy: bool | None = None,
    ) -> pd.DataFrame | npt.NDArray[np.float32]:
        """Probability, 1 − π, that a protein's count is more than background.

        Parameters and raises are those of `get_normalized_expression`.

        Returns
        -------
        pandas.DataFrame or numpy.ndarray
            (cells, proteins), with a last axis of samples when ``return_mean`` is false.
        """
        cells, names = self._cells_of(adata, indices)
        options = ExpressionOptions(
            genes=np.empty(0, np.intp),
            proteins=_chosen(protein_list, self.registry.proteins, "protein"),
            decode_as=self._batch_codes(transform_batch),
            n_samples=_at_least_one(n_samples),
            return_mean=return_mean or n_samples == 1,
        )
        probability = foreground_probability(self.module, cells, options, batch_size or DEFAULT_BATCH_SIZE)
        if return_numpy or probability.ndim == 3:
            return probability
        columns = np.asarray(self.registry.proteins)[options.proteins]
        return pd.DataFrame(probability, index=names, columns=columns)


def _chosen(names: Sequence[str] | None, known: Sequence[str], what: str) -> npt.NDArray[np.intp]:
    if names is None:
        return np.arange(len(known))
    positions = pd.Index(known).get_indexer(pd.Index(list(names), dtype=object))
    if (positions < 0).any():
        unknown = [name for name, position in zip(names, positions, strict=True) if position < 0]
        raise ArgumentError(
            f"Expected {what}s of the model, found {', '.join(map(repr, unknown[:5]))}; see registry.{what}s."
        )
    return positions


def _at_least_one(n_samples: int) -> int:
    if n_samples < 1:
        raise ArgumentError(f"n_samples: expected at least 1, found {n_samples}; give such a number.")
    return n_samples
