"""Questions about expression: `get_normalized_expression` and `get_protein_foreground_probability`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from totalanvi.training.base import BaseModel
from totalanvi.training.checks import as_number, as_whole, require_flags
from totalanvi.training.registration.codes import Batches
from totalanvi.training.registration.setup_note import Data
from totalanvi.training.results.arguments import cells_in_batch, chosen_features
from totalanvi.training.results.expression import ExpressionOptions, foreground_probability, normalized_expression

__all__ = ["ExpressionMethods"]


class ExpressionMethods(BaseModel):
    """What the model makes of the expression of genes and proteins."""

    def get_normalized_expression(
        self,
        adata: Data | None = None,
        indices: Sequence[int] | None = None,
        n_samples_overall: int | None = None,
        transform_batch: Batches | None = None,
        gene_list: Sequence[str] | None = None,
        protein_list: Sequence[str] | None = None,
        library_size: float | Literal["latent"] | None = 1.0,
        n_samples: int = 1,
        sample_protein_mixing: bool = False,
        scale_protein: bool = False,
        include_protein_background: bool = False,
        batch_size: int | None = None,
        return_mean: bool = True,
        return_numpy: bool | None = None,
        silent: bool = True,
    ) -> tuple[pd.DataFrame, pd.DataFrame] | tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        r"""Denoised expression: genes as :math:`ℓ ρ`, proteins as :math:`(1 - π) α E[β]`, without their background.

        Memory is that of the result and of one mini-batch, whatever the number of samples.

        Parameters
        ----------
        adata, indices, batch_size
            As in `get_latent_representation`.
        n_samples_overall
            Draw so many of the cells, with replacement, instead of taking each once.
        transform_batch
            Batch, by name or code, to decode as; several are averaged; each cell's own by default.
        gene_list, protein_list
            Features wanted, in this order; all by default, none for an empty list.
        library_size
            ℓ, the scale of gene expression, or ``"latent"`` for each cell's own library (or size factor).
        n_samples
            Draws from the posterior of z.
        sample_protein_mixing
            Draw whether a protein is background instead of weighing it.
        scale_protein
            Make a cell's proteins sum to 1.
        include_protein_background
            Add the background, :math:`π E[β]`.
        return_mean
            Average over draws; otherwise they are a last axis.
        return_numpy
            Arrays instead of frames. Draws that are not averaged come as arrays.
        silent
            Without meaning here, taken for the sake of scripts.

        Returns
        -------
        genes, proteins
            (cells, genes) and (cells, proteins), float32, with a last axis of samples when ``return_mean`` is false.

        Raises
        ------
        ArgumentError
            For batches or features that the model does not know, numbers and flags that are none; for cells as
            `get_latent_representation`.

        Examples
        --------
        >>> genes, proteins = model.get_normalized_expression(gene_list=[], n_samples=25)  # doctest: +SKIP

        References
        ----------
        Gayoso, Steier et al., Nature Methods 18 (2021), Methods, "Denoised protein expression".
        """
        require_flags(silent=silent)
        cells, names = self._cells_of(adata, indices)
        if n_samples_overall is not None:
            n_drawn = as_whole("n_samples_overall", n_samples_overall, 1)
            drawn = torch.randint(len(cells), (n_drawn,)).numpy()
            cells, names = cells[drawn], names[drawn]
        n_samples = as_whole("n_samples", n_samples, 1)
        keeps_draws = _keeps_draws(n_samples, return_mean, return_numpy)
        options = ExpressionOptions(
            genes=chosen_features(gene_list, self.registry.genes, "gene"),
            proteins=chosen_features(protein_list, self.registry.proteins, "protein"),
            decode_as=self._batch_codes(transform_batch),
            n_samples=n_samples,
            return_mean=not keeps_draws,
            library_size=_library_size(library_size),
            sample_protein_mixing=sample_protein_mixing,
            scale_protein=scale_protein,
            include_protein_background=include_protein_background,
        )
        genes, proteins = normalized_expression(self.module, cells, options, cells_in_batch(batch_size))
        if return_numpy or keeps_draws:
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
        transform_batch: Batches | None = None,
        protein_list: Sequence[str] | None = None,
        n_samples: int = 1,
        batch_size: int | None = None,
        return_mean: bool = True,
        return_numpy: bool | None = None,
        silent: bool = True,
    ) -> pd.DataFrame | npt.NDArray[np.float32]:
        """Probability, 1 − π, that a protein's count is more than background.

        Parameters
        ----------
        adata, indices, batch_size
            As in `get_latent_representation`.
        transform_batch, protein_list, n_samples, return_mean, return_numpy, silent
            As in `get_normalized_expression`.

        Returns
        -------
        pandas.DataFrame or numpy.ndarray
            (cells, proteins), float32, with a last axis of samples when ``return_mean`` is false.

        Raises
        ------
        ArgumentError
            As `get_normalized_expression`.

        Examples
        --------
        >>> model.get_protein_foreground_probability(protein_list=["CD3", "CD4"])  # doctest: +SKIP
        """
        require_flags(silent=silent)
        cells, names = self._cells_of(adata, indices)
        n_samples = as_whole("n_samples", n_samples, 1)
        keeps_draws = _keeps_draws(n_samples, return_mean, return_numpy)
        options = ExpressionOptions(
            genes=np.empty(0, np.intp),
            proteins=chosen_features(protein_list, self.registry.proteins, "protein"),
            decode_as=self._batch_codes(transform_batch),
            n_samples=n_samples,
            return_mean=not keeps_draws,
        )
        probability = foreground_probability(self.module, cells, options, cells_in_batch(batch_size))
        if return_numpy or keeps_draws:
            return probability
        columns = np.asarray(self.registry.proteins)[options.proteins]
        return pd.DataFrame(probability, index=names, columns=columns)


def _keeps_draws(n_samples: int, return_mean: bool, return_numpy: bool | None) -> bool:
    require_flags(return_mean=return_mean, return_numpy=return_numpy is not None and return_numpy)
    keeps = n_samples > 1 and not return_mean
    if keeps and return_numpy is False:
        warnings.warn(
            "Draws that are not averaged have three axes and come as arrays, although return_numpy is False.",
            UserWarning,
            stacklevel=3,
        )
    return keeps


def _library_size(value: float | str | None) -> float | Literal["latent"]:
    if value is None:
        return 1.0
    if isinstance(value, str) and value == "latent":
        return "latent"
    cure = "1 gives shares, 1e4 counts per 10k, 'latent' those of each cell's own library"
    return as_number("library_size", value, above=0, cure=cure)
