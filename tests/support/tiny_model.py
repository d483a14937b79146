"""Models small enough to enumerate, with weights that nothing has trained."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from tests.support.reference_cells import draw_cells

from totalanvi.training.data import CellBatch
from totalanvi.training.network.anvae import TotalANVAE
from totalanvi.training.network.config import ModelConfig
from totalanvi.training.network.dimensions import Dimensions
from totalanvi.training.network.vae import TotalVAE

__all__ = ["TINY", "tiny_batch", "tiny_model"]

N_GENES, N_PROTEINS, N_BATCHES = 9, 4, 2
TINY = Dimensions(N_GENES, N_PROTEINS, N_BATCHES, N_BATCHES)


def tiny_model(labels: int = 0, seed: int = 0, dims: Dimensions | None = None, **options: Any) -> TotalVAE:
    """A totalVI network, or a TotalANVI one when there are labels, in evaluation mode: no dropout."""
    dims = dims or replace(TINY, n_labels=labels)
    config = ModelConfig(**{"n_latent": 3, "n_hidden": 8, "n_layers_encoder": 1, **options})
    torch.manual_seed(seed)
    library_prior = torch.tensor([[2.0, 0.5], [1.5, 0.3]])
    model = (TotalANVAE if labels else TotalVAE)(dims, config, library_prior=library_prior)
    with torch.no_grad():
        # Zeros at the start would hide a term that is computed wrongly.
        model.log_per_batch_efficiency.normal_(std=0.3)
        model.background_pro_log_beta.normal_(std=0.3)
    return model.eval()


def tiny_batch(labels: int = 3, **options: Any) -> CellBatch:
    """A mini-batch for `tiny_model`: some cells without labels, some without proteins, all sorts of batches."""
    cells = draw_cells(n_genes=N_GENES, n_proteins=N_PROTEINS, n_batches=N_BATCHES, n_labels=labels, **options)
    return cells.to_batch()
