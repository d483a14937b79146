"""How well the model explains cells: ELBO, reconstruction error, marginal log-likelihood."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from totalanvi.training.base import BaseModel
from totalanvi.training.checks import as_whole, require_flags
from totalanvi.training.data import CellBatch, Cells
from totalanvi.training.loaders import cell_loader
from totalanvi.training.network.vae import TotalVAE
from totalanvi.training.registration.setup_note import Data
from totalanvi.training.results.arguments import cells_in_batch
from totalanvi.training.results.marginal import marginal_log_likelihood

__all__ = ["LikelihoodMethods", "elbo", "reconstruction_error"]


class LikelihoodMethods(BaseModel):
    """Likelihoods and their bounds, in nats, one number a cell or their mean. More is better, but for errors."""

    def get_elbo(
        self,
        adata: Data | None = None,
        indices: Sequence[int] | None = None,
        batch_size: int | None = None,
        *,
        return_mean: bool = True,
    ) -> Tensor:
        """Evidence lower bound of the log-likelihood of cells, with one draw from the posterior.

        It bounds what `get_marginal_ll` estimates: log p(x, y), or log p(x, y, c) of a cell whose label c is known to
        TotalANVI. The training objective's penalty on protein efficiencies, a prior of parameters, is no part of it.

        Parameters
        ----------
        adata, indices, batch_size
            As in `get_latent_representation`.
        return_mean
            Average over cells.

        Returns
        -------
        torch.Tensor
            A number, or (cells,), float64, in nats. More is better.

        Raises
        ------
        TrainingError
            As `get_latent_representation`.

        Examples
        --------
        >>> model.get_elbo(indices=model.validation_indices)  # doctest: +SKIP

        References
        ----------
        Gayoso, Steier et al., Nature Methods 18 (2021), Methods; for TotalANVI's labels, Xu et al., Molecular Systems
        Biology 17 (2021), Methods.
        """
        require_flags(return_mean=return_mean)
        cells, _ = self._cells_of(adata, indices)
        return _mean_or_each(elbo(self.module, cells, cells_in_batch(batch_size)), return_mean)

    def get_reconstruction_error(
        self,
        adata: Data | None = None,
        indices: Sequence[int] | None = None,
        batch_size: int | None = None,
        *,
        return_mean: bool = True,
    ) -> dict[str, Tensor]:
        """Negative log-likelihood of the counts given one draw of what is latent.

        Parameters
        ----------
        adata, indices, batch_size, return_mean
            As in `get_elbo`.

        Returns
        -------
        dict
            ``"reconst_loss_gene"``, ``−log p(x | z, ℓ)``, and ``"reconst_loss_protein"``, ``−log p(y | z, β)`` of the
            measured proteins: each a number, or (cells,), float64, in nats. Less is better.

        Raises
        ------
        TrainingError
            As `get_latent_representation`.

        Examples
        --------
        >>> model.get_reconstruction_error()["reconst_loss_protein"]  # doctest: +SKIP

        References
        ----------
        Gayoso, Steier et al., Nature Methods 18 (2021), Methods, eqs. 3-6.
        """
        require_flags(return_mean=return_mean)
        cells, _ = self._cells_of(adata, indices)
        errors = reconstruction_error(self.module, cells, cells_in_batch(batch_size))
        return {name: _mean_or_each(error, return_mean) for name, error in errors.items()}

    def get_marginal_ll(
        self,
        adata: Data | None = None,
        indices: Sequence[int] | None = None,
        n_mc_samples: int = 1_000,
        batch_size: int | None = None,
        return_mean: bool = True,
    ) -> float | Tensor:
        """Marginal log-likelihood of cells, everything latent integrated out by importance sampling.

        A label that is known is data like the counts: the cell's value is log p(x, y, c), which `get_elbo` bounds. To
        compare cells or models by their counts alone, pass cells whose labels are those that mean "not labelled": their
        value, log p(x, y), sums over the labels. The prior of z is the model's own, in TotalANVI that with labels. See
        `totalanvi.training.results.marginal` for the estimator; its memory does not grow with the number of draws.

        Parameters
        ----------
        adata, indices, batch_size
            As in `get_latent_representation`.
        n_mc_samples
            Draws from the posterior. The estimate is biased downwards, the less the more draws.
        return_mean
            Average over cells.

        Returns
        -------
        float or torch.Tensor
            A number, or (cells,), float64, in nats. More is better.

        Raises
        ------
        ArgumentError
            For less than one draw; for cells as `get_latent_representation`.

        Examples
        --------
        >>> model.get_marginal_ll(indices=model.validation_indices, n_mc_samples=100)  # doctest: +SKIP

        References
        ----------
        Burda, Grosse, Salakhutdinov: Importance weighted autoencoders. ICLR 2016, eq. 8.
        """
        require_flags(return_mean=return_mean)
        cells, _ = self._cells_of(adata, indices)
        n_samples = as_whole("n_mc_samples", n_mc_samples, 1)
        each = marginal_log_likelihood(self.module, cells, n_samples, cells_in_batch(batch_size))
        return float(each.mean()) if return_mean else each


@torch.inference_mode()
def elbo(module: TotalVAE, cells: Cells, batch_size: int) -> Tensor:
    """Evidence lower bound of each cell, (cells,), float64."""
    bounds = []
    for batch in _batches(module, cells, batch_size):
        bounds.append(-module(batch).negative_elbo.cpu().double())
    return torch.cat(bounds)


@torch.inference_mode()
def reconstruction_error(module: TotalVAE, cells: Cells, batch_size: int) -> dict[str, Tensor]:
    """Negative log-likelihood of the genes and of the proteins of each cell, each (cells,), float64."""
    genes, proteins = [], []
    for batch in _batches(module, cells, batch_size):
        terms = module(batch)
        genes.append(terms.reconstruction_gene.cpu().double())
        proteins.append(terms.reconstruction_protein.cpu().double())
    return {"reconst_loss_gene": torch.cat(genes), "reconst_loss_protein": torch.cat(proteins)}


def _batches(module: TotalVAE, cells: Cells, batch_size: int) -> Iterator[CellBatch]:
    """Mini-batches on the device of the network, which is set to evaluation mode."""
    module.eval()
    for batch in cell_loader(cells, batch_size=batch_size):
        yield batch.to(module.px_r.device)


def _mean_or_each(values: Tensor, return_mean: bool) -> Tensor:
    return values.mean() if return_mean else values
