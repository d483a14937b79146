"""Where cells lie in the latent space."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from totalanvi.training.data import Cells
from totalanvi.training.results.posterior import posteriors
from totalanvi.training.vae import TotalVAE

__all__ = ["latent_representation"]


@torch.inference_mode()
def latent_representation(module: TotalVAE, cells: Cells, give_mean: bool, batch_size: int) -> npt.NDArray[np.float32]:
    """Posterior mean, or one draw, after the latent transformation, (cells, latent)."""
    latents = [
        module.transform(posterior.z.mean if give_mean else posterior.z.sample()).cpu().numpy()
        for posterior in posteriors(module, cells, batch_size)
    ]
    return np.concatenate(latents)
