"""Simulated data: what the assay might count if it measured the same cells again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from mudata import MuData
from torch import Tensor

from totalanvi.training.base import BaseModel
from totalanvi.training.checks import as_whole
from totalanvi.training.data import Cells
from totalanvi.training.network.vae import TotalVAE
from totalanvi.training.registration.setup_note import Data
from totalanvi.training.results.arguments import cells_in_batch, chosen_features
from totalanvi.training.results.draw import Draw, draw, draw_rates
from totalanvi.training.results.drawn_array import DrawnArray, with_rows
from totalanvi.training.results.posterior import posteriors

__all__ = ["PredictiveMethods", "posterior_predictive"]

_MOST_RATE = 1e18
"""Torch counts in 64-bit integers: beyond, they would wrap and be negative."""

Array = npt.NDArray[np.float32]


class PredictiveMethods(BaseModel):
    """Draws from the posterior predictive distribution."""

    def posterior_predictive_sample(
        self,
        adata: Data | None = None,
        indices: Sequence[int] | None = None,
        n_samples: int = 1,
        batch_size: int | None = None,
        gene_list: Sequence[str] | None = None,
        protein_list: Sequence[str] | None = None,
    ) -> dict[str, Array]:
        r"""Simulate counts of the same cells: draws from :math:`p(\hat{x}, \hat{y} \mid x, y)`.

        z, ℓ and the protein background are drawn from their posterior, then counts given them. These are counts as the
        cell's own assay would make them: at its library size or size factor, with extra zeros under the zero-inflated
        likelihood, with background, and with its batch's protein efficiency. Proteins that were not measured are
        simulated like the others. Memory is that of the result and of one mini-batch.

        Parameters
        ----------
        adata, indices, batch_size
            As in `get_latent_representation`.
        n_samples
            Draws for each cell.
        gene_list, protein_list
            Features wanted, in this order; all by default, none for an empty list.

        Returns
        -------
        dict
            ``"rna"``, (cells, genes), and ``"protein"``, (cells, proteins): counts as float32, with a last axis of
            samples where there are several. For MuData, the keys are the names of the two modalities.

        Raises
        ------
        ArgumentError
            For less than one sample, or features that the model does not know; for cells as
            `get_latent_representation`.

        Examples
        --------
        >>> model.posterior_predictive_sample(n_samples=25, gene_list=["CD8A"])["rna"]  # doctest: +SKIP

        References
        ----------
        Gayoso, Steier et al., Nature Methods 18 (2021), Methods: the model, sampled.
        """
        cells, _ = self._cells_of(adata, indices)
        rna, protein = posterior_predictive(
            self.module,
            cells,
            genes=chosen_features(gene_list, self.registry.genes, "gene"),
            proteins=chosen_features(protein_list, self.registry.proteins, "protein"),
            n_samples=as_whole("n_samples", n_samples, 1),
            batch_size=cells_in_batch(batch_size),
        )
        if isinstance(self.adata if adata is None else adata, MuData):
            return {str(self._setup.rna): rna, str(self._setup.proteins): protein}
        return {"rna": rna, "protein": protein}


@torch.inference_mode()
def posterior_predictive(
    module: TotalVAE,
    cells: Cells,
    genes: npt.NDArray[np.intp],
    proteins: npt.NDArray[np.intp],
    n_samples: int,
    batch_size: int,
) -> tuple[Array, Array]:
    """Simulated counts of the genes and proteins at these positions, each (cells, features[, samples])."""
    rna = DrawnArray(len(cells), len(genes), n_samples, keeps_draws=True)
    protein = DrawnArray(len(cells), len(proteins), n_samples, keeps_draws=True)
    for rows, posterior in with_rows(posteriors(module, cells, batch_size)):
        log_efficiency = module.log_efficiency(posterior.covariates.batch)
        for sample in range(n_samples):
            drawn = draw(module, posterior)
            rna.take(rows, sample, _gene_counts(drawn, genes))
            protein.take(rows, sample, _protein_counts(drawn, log_efficiency, proteins))
    return rna.array, protein.array


def _gene_counts(drawn: Draw, genes: npt.NDArray[np.intp]) -> Tensor:
    """Draw x from its likelihood, (cells, genes)."""
    log_mean = drawn.log_size + drawn.log_scale[:, genes]
    counts = _counts(log_mean, drawn.gene_log_theta[..., genes])
    if drawn.dropout_logits is None:
        return counts
    return counts * torch.bernoulli(torch.sigmoid(-drawn.dropout_logits[:, genes]))


def _protein_counts(drawn: Draw, log_efficiency: Tensor, proteins: npt.NDArray[np.intp]) -> Tensor:
    """Draw β and whether there is foreground, then y from its likelihood, (cells, proteins)."""
    foreground = torch.bernoulli(drawn.proteins.foreground_probability)
    log_mean = drawn.proteins.sample_log_background() + log_efficiency
    log_mean = log_mean + foreground * drawn.proteins.log_foreground_ratio
    return _counts(log_mean[:, proteins], drawn.protein_log_theta[..., proteins])


def _counts(log_mean: Tensor, log_theta: Tensor) -> Tensor:
    """Draw from NB(μ, θ)."""
    return torch.poisson(draw_rates(log_mean, log_theta).clamp(max=_MOST_RATE))
