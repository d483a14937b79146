"""What each gene is worth to a trained model: what a query loses without it is more than its counts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from totalanvi.export.reference_cells import normalised
from totalanvi.training.data import Cells
from totalanvi.training.network.anvae import TotalANVAE
from totalanvi.training.network.inputs import scaled_counts

__all__ = ["gene_weight"]


def gene_weight(module: TotalANVAE, cells: Cells) -> npt.NDArray[np.float32]:
    """Share of what the encoder's first layer takes from genes that each gene has, (genes,); sums to 1.

    A gene gives the hidden units its input times its column of weights: the Euclidean norm of the column, times the
    gene's mean input over cells.

    Parameters
    ----------
    module
        The trained model.
    cells
        Of its reference.
    """
    columns = module.encoder.rna_in.weight.detach().norm(dim=0).double().numpy()
    return normalised(columns * _mean_input(module, cells))


def _mean_input(module: TotalANVAE, cells: Cells) -> npt.NDArray[np.float64]:
    """Mean over cells of what the encoder is given of each gene, (genes,); zeros stay zeros, and need no computing."""
    rna = cells.rna.tocsr().astype(np.float32)
    library = np.asarray(rna.sum(axis=1)).ravel()
    rows = np.repeat(np.arange(rna.shape[0]), np.diff(rna.indptr))
    scaled = scaled_counts(torch.from_numpy(rna.data), torch.from_numpy(library[rows]), rna.shape[1])
    sums = np.bincount(rna.indices, weights=scaled.double().numpy(), minlength=rna.shape[1])
    return np.asarray(sums / max(rna.shape[0], 1), dtype=np.float64)
