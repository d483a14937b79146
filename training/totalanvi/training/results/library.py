"""How large cells' libraries are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from totalanvi.training.base import BaseModel
from totalanvi.training.checks import require_flags
from totalanvi.training.data import Cells
from totalanvi.training.network.vae import TotalVAE
from totalanvi.training.registration.setup_note import Data
from totalanvi.training.results.arguments import cells_in_batch
from totalanvi.training.results.posterior import CellPosterior, posteriors

__all__ = ["LibraryMethods", "latent_library_size"]

Array = npt.NDArray[np.float32]


class LibraryMethods(BaseModel):
    """The library size ℓ."""

    def get_latent_library_size(
        self,
        adata: Data | None = None,
        indices: Sequence[int] | None = None,
        give_mean: bool = True,
        batch_size: int | None = None,
    ) -> Array:
        r"""Library size ℓ of each cell: what a gene's share ρ is multiplied by.

        Where it is inferred (``use_observed_lib_size=False``), the posterior mean
        :math:`\exp(μ + σ^2 / 2)` of a log-normal. Where it is observed, the total RNA count over the model's genes;
        with a size factor, the size factor: there is nothing to infer then, and nothing to draw.

        Parameters
        ----------
        adata, indices, batch_size
            As in `get_latent_representation`.
        give_mean
            The posterior mean, or else one draw.

        Returns
        -------
        numpy.ndarray
            (cells, 1), float32, in counts, or of the size factor's unit.

        Raises
        ------
        TrainingError
            As `get_latent_representation`.

        Examples
        --------
        >>> adata.obs["library"] = model.get_latent_library_size().ravel()  # doctest: +SKIP

        References
        ----------
        Gayoso, Steier et al., Nature Methods 18 (2021), Methods.
        """
        require_flags(give_mean=give_mean)
        cells, _ = self._cells_of(adata, indices)
        return latent_library_size(self.module, cells, give_mean, cells_in_batch(batch_size))


@torch.inference_mode()
def latent_library_size(module: TotalVAE, cells: Cells, give_mean: bool, batch_size: int) -> Array:
    """Posterior mean of ℓ, or one draw; the observed one or the size factor where nothing is inferred, (cells, 1)."""
    sizes = [_size(posterior, give_mean).cpu().numpy() for posterior in posteriors(module, cells, batch_size)]
    return np.concatenate(sizes)


def _size(posterior: CellPosterior, give_mean: bool) -> Tensor:
    if posterior.library is not None:
        mean, scale = posterior.library
        return (mean + 0.5 * scale.square() if give_mean else posterior.library.sample()).exp()
    size_factor = posterior.cells.size_factor
    return size_factor if size_factor.shape[-1] else posterior.cells.library
