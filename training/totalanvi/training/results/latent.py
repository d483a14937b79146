"""Where cells lie in the latent space."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from totalanvi.training.base import BaseModel
from totalanvi.training.checks import as_whole, require_flags
from totalanvi.training.data import Cells
from totalanvi.training.network.losses import Normal
from totalanvi.training.network.vae import TotalVAE
from totalanvi.training.registration.setup_note import Data
from totalanvi.training.results.arguments import cells_in_batch
from totalanvi.training.results.posterior import posteriors

__all__ = ["LatentMethods", "latent_distribution", "latent_representation"]

_DRAWS_AT_ONCE = 100

Array = npt.NDArray[np.float32]


class LatentMethods(BaseModel):
    """The posterior of z."""

    def get_latent_representation(
        self,
        adata: Data | None = None,
        indices: Sequence[int] | None = None,
        give_mean: bool = True,
        mc_samples: int = 5_000,
        batch_size: int | None = None,
        return_dist: bool = False,
    ) -> Array | tuple[Array, Array]:
        """Where cells lie in the latent space.

        Parameters
        ----------
        adata
            Cells with the reference's features and columns; the reference itself by default.
        indices
            Positions of the cells wanted, or a mask; all by default.
        give_mean
            The posterior mean, or else one draw.
        mc_samples
            Draws that estimate the mean under the logistic normal, which has no closed form.
        batch_size
            Cells in a mini-batch, 256 by default.
        return_dist
            Return mean and variance of q(z | x, y) instead, before the latent transformation.

        Returns
        -------
        numpy.ndarray, or two of them
            (cells, latent), float32.

        Raises
        ------
        RegistrationError
            When ``adata`` lacks features or columns, or has a batch that the model does not know.
        CountsError
            When its values are not raw counts.
        ArgumentError
            When there is no such cell, or no data at all; for numbers and flags that are none.

        Examples
        --------
        >>> adata.obsm["X_totalanvi"] = model.get_latent_representation()  # doctest: +SKIP

        References
        ----------
        Gayoso, Steier et al., Nature Methods 18 (2021), Methods, "Posterior inference": the q(z | x, y) of the model.
        """
        require_flags(give_mean=give_mean, return_dist=return_dist)
        n_draws = as_whole("mc_samples", mc_samples, 1)
        cells, _ = self._cells_of(adata, indices)
        size = cells_in_batch(batch_size)
        if return_dist:
            return latent_distribution(self.module, cells, size)
        return latent_representation(self.module, cells, give_mean, size, n_draws)


@torch.inference_mode()
def latent_representation(
    module: TotalVAE, cells: Cells, give_mean: bool, batch_size: int, mc_samples: int = 5_000
) -> Array:
    """Posterior mean, or one draw, after the latent transformation, (cells, latent)."""
    latents = [
        (_mean(module, posterior.z, mc_samples) if give_mean else module.transform(posterior.z.sample())).cpu().numpy()
        for posterior in posteriors(module, cells, batch_size)
    ]
    return np.concatenate(latents)


@torch.inference_mode()
def latent_distribution(module: TotalVAE, cells: Cells, batch_size: int) -> tuple[Array, Array]:
    """Mean and variance of q(z | x, y) before the latent transformation, each (cells, latent)."""
    normals = [posterior.z for posterior in posteriors(module, cells, batch_size)]
    means = np.concatenate([normal.mean.cpu().numpy() for normal in normals])
    return means, np.concatenate([normal.scale.square().cpu().numpy() for normal in normals])


def _mean(module: TotalVAE, z: Normal, mc_samples: int) -> Tensor:
    """Mean of the transformed latent, (cells, latent): exact for the normal, by Monte Carlo for the logistic normal."""
    if module.config.latent_distribution == "normal":
        return z.mean
    total = torch.zeros_like(z.mean)
    for start in range(0, mc_samples, _DRAWS_AT_ONCE):
        shape = (min(_DRAWS_AT_ONCE, mc_samples - start), *z.mean.shape)
        total += module.transform(z.mean + z.scale * torch.randn(shape, device=z.mean.device)).sum(dim=0)
    return total / mc_samples
