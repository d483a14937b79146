"""Cells → their posterior, in mini-batches; what every other result starts from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from totalanvi.training.data import CellBatch, Cells
from totalanvi.training.loaders import cell_loader
from totalanvi.training.network.covariates import Covariates
from totalanvi.training.network.inputs import EncoderInputs
from totalanvi.training.network.losses import Normal
from totalanvi.training.network.vae import TotalVAE

__all__ = ["CellPosterior", "posteriors"]


class CellPosterior(NamedTuple):
    """A mini-batch and its posterior, on the model's device."""

    cells: CellBatch
    covariates: Covariates
    """What the cells are decoded with: their own batch and covariates."""
    z: Normal
    """Posterior before the latent transformation, (cells, latent)."""
    library: Normal | None
    """Posterior of log ℓ, (cells, 1); `None` where the library is observed."""


@torch.inference_mode()
def posteriors(module: TotalVAE, cells: Cells, batch_size: int) -> Iterator[CellPosterior]:
    """Encode cells in evaluation mode, one mini-batch at a time."""
    module.eval()
    device = module.px_r.device
    for batch in cell_loader(cells, batch_size=batch_size):
        on_device = batch.to(device)
        inputs = EncoderInputs.of(on_device, module.dims)
        z, library = module.encode(inputs)
        yield CellPosterior(on_device, inputs.covariates, z, library)
