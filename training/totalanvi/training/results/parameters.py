"""The parameters of the likelihoods, as the decoders give them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from totalanvi.training.base import BaseModel
from totalanvi.training.checks import as_whole, require_flags
from totalanvi.training.data import Cells
from totalanvi.training.network.vae import TotalVAE
from totalanvi.training.registration.setup_note import Data
from totalanvi.training.results.arguments import cells_in_batch
from totalanvi.training.results.draw import draw
from totalanvi.training.results.drawn_array import DrawnArray, with_rows
from totalanvi.training.results.posterior import CellPosterior, posteriors

__all__ = ["ParameterMethods", "likelihood_parameters", "protein_background_mean"]

Array = npt.NDArray[np.float32]


class ParameterMethods(BaseModel):
    """What the likelihoods of genes and proteins are made of."""

    def get_likelihood_parameters(
        self,
        adata: Data | None = None,
        indices: Sequence[int] | None = None,
        n_samples: int = 1,
        give_mean: bool = False,
        batch_size: int | None = None,
    ) -> dict[str, Array]:
        r"""Parameters of the likelihood :math:`p(x, y \mid z, ℓ)` at draws of z and ℓ from the posterior.

        .. math::

            x \sim \mathrm{NB}(μ, θ), \quad \log β \sim N(a, b^2), \quad
            y \sim π\, \mathrm{NB}(β, φ) + (1 - π)\, \mathrm{NB}(α β, φ)

        with x zero with an extra probability under the zero-inflated likelihood. They describe what the cell's own
        assay counts: μ is on the scale of its library or size factor, and a holds its batch's protein efficiency.

        Parameters
        ----------
        adata, indices, batch_size
            As in `get_latent_representation`.
        n_samples
            Draws from the posterior.
        give_mean
            Average each parameter over the draws; otherwise they are a last axis, where there are several. With the
            average, memory does not grow with the number of draws.

        Returns
        -------
        dict
            Of float32 arrays, (cells, genes) or (cells, proteins), with a last axis of samples where draws are kept:
            ``"mean"`` μ, counts; ``"dispersions"`` θ, inverse dispersion; ``"dropout"``, probability of an extra zero,
            under the zero-inflated likelihood alone; ``"protein_log_background_mean"`` a and
            ``"protein_log_background_scale"`` b, of log counts; ``"protein_foreground_ratio"`` α, at least 1;
            ``"protein_mixing"`` π, probability of background; ``"protein_dispersions"`` φ, inverse dispersion.

        Raises
        ------
        ArgumentError
            For less than one sample; for cells as `get_latent_representation`.

        Examples
        --------
        >>> parameters = model.get_likelihood_parameters(n_samples=25, give_mean=True)  # doctest: +SKIP
        >>> variance = parameters["mean"] + parameters["mean"] ** 2 / parameters["dispersions"]  # doctest: +SKIP

        References
        ----------
        Gayoso, Steier et al., Nature Methods 18 (2021), Methods, eqs. 3-6.
        """
        require_flags(give_mean=give_mean)
        cells, _ = self._cells_of(adata, indices)
        n_samples = as_whole("n_samples", n_samples, 1)
        return likelihood_parameters(self.module, cells, n_samples, give_mean, cells_in_batch(batch_size))

    def get_protein_background_mean(
        self, adata: Data | None = None, indices: Sequence[int] | None = None, batch_size: int | None = None
    ) -> Array:
        r"""Expected protein background :math:`E[β] = \exp(a + b^2 / 2)` at the posterior mean of z.

        It is on the scale of `get_normalized_expression`: without the efficiencies of the batches.

        Parameters
        ----------
        adata, indices, batch_size
            As in `get_latent_representation`.

        Returns
        -------
        numpy.ndarray
            (cells, proteins), float32, in counts.

        Raises
        ------
        TrainingError
            As `get_latent_representation`.

        Examples
        --------
        >>> adata.obsm["protein_background"] = model.get_protein_background_mean()  # doctest: +SKIP

        References
        ----------
        Gayoso, Steier et al., Nature Methods 18 (2021), Methods.
        """
        cells, _ = self._cells_of(adata, indices)
        return protein_background_mean(self.module, cells, cells_in_batch(batch_size))


@torch.inference_mode()
def likelihood_parameters(
    module: TotalVAE, cells: Cells, n_samples: int, give_mean: bool, batch_size: int
) -> dict[str, Array]:
    """Parameters by name, each (cells, features[, samples])."""
    result: dict[str, DrawnArray] = {}
    for rows, posterior in with_rows(posteriors(module, cells, batch_size)):
        for sample in range(n_samples):
            for name, values in _parameters(module, posterior):
                if name not in result:
                    result[name] = DrawnArray(len(cells), values.shape[-1], n_samples, keeps_draws=not give_mean)
                result[name].take(rows, sample, values)
    return {name: drawn.array for name, drawn in result.items()}


def _parameters(module: TotalVAE, posterior: CellPosterior) -> Iterator[tuple[str, Tensor]]:
    """Parameters at one draw, by name, (cells, features) or (features,) where all cells share them."""
    drawn = draw(module, posterior)
    proteins = drawn.proteins
    yield "mean", (drawn.log_size + drawn.log_scale).exp()
    yield "dispersions", drawn.gene_log_theta.exp()
    if drawn.dropout_logits is not None:
        yield "dropout", drawn.dropout_logits.sigmoid()
    yield (
        "protein_log_background_mean",
        proteins.log_background_mean + module.log_efficiency(posterior.covariates.batch),
    )
    yield "protein_log_background_scale", proteins.log_background_scale
    yield "protein_foreground_ratio", proteins.log_foreground_ratio.exp()
    yield "protein_mixing", proteins.background_logits.sigmoid()
    yield "protein_dispersions", drawn.protein_log_theta.exp()


@torch.inference_mode()
def protein_background_mean(module: TotalVAE, cells: Cells, batch_size: int) -> Array:
    """E[β] at the posterior mean of z, (cells, proteins)."""
    result = DrawnArray(len(cells), module.dims.n_proteins, n_samples=1, keeps_draws=False)
    for rows, posterior in with_rows(posteriors(module, cells, batch_size)):
        proteins = module.decode_proteins(module.transform(posterior.z.mean), posterior.covariates)
        result.take(rows, 0, proteins.log_background.exp())
    return result.array
