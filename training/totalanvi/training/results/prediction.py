"""Which cell type a cell is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from totalanvi.training.data import Cells
from totalanvi.training.network.anvae import TotalANVAE
from totalanvi.training.results.posterior import posteriors

__all__ = ["label_probabilities"]


@torch.inference_mode()
def label_probabilities(
    module: TotalANVAE, cells: Cells, use_posterior_mean: bool, batch_size: int
) -> npt.NDArray[np.float32]:
    """q(c | z) at the posterior mean of z, or at one draw, (cells, labels)."""
    probabilities = []
    for posterior in posteriors(module, cells, batch_size):
        z = posterior.z.mean if use_posterior_mean else posterior.z.sample()
        probabilities.append(module.classify(module.transform(z)).softmax(dim=-1).cpu().numpy())
    return np.concatenate(probabilities)
