"""What a readout says of cells in memory."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from totalanvi.training.data import Cells
from totalanvi.training.readout.readout import Readout

__all__ = ["readout_probabilities"]


@torch.inference_mode()
def readout_probabilities(readout: Readout, cells: Cells, batch_size: int) -> npt.NDArray[np.float32]:
    """Return the probabilities of labels, (cells, labels).

    Parameters
    ----------
    readout
        As fitted.
    cells
        With the model's genes and proteins.
    batch_size
        Cells that are made dense at a time.

    Examples
    --------
    >>> readout_probabilities(model.readout, cells, batch_size=256).sum(axis=1)  # doctest: +SKIP
    """
    probabilities = []
    for start in range(0, len(cells), batch_size):
        batch = cells[slice(start, start + batch_size)].to_batch()
        inputs = (
            batch.rna.to_dense(),
            batch.library,
            batch.protein,
            batch.measured.float(),
            *readout.network.every_gene,
        )
        probabilities.append(readout.network(*inputs)[0].exp().numpy())
    return np.concatenate(probabilities)
