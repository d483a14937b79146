"""Arrays of results, made once and filled mini-batch by mini-batch, so that no list of parts is held beside them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from torch import Tensor

from totalanvi.training.results.posterior import CellPosterior

__all__ = ["DrawnArray", "with_rows"]


class DrawnArray:
    """Draws of (cells, features), kept as a last axis or averaged.

    Parameters
    ----------
    n_cells, n_features, n_samples
        Sizes.
    keeps_draws
        Keep the draws, (cells, features, samples). Otherwise, and for a single one, (cells, features).
    """

    def __init__(self, n_cells: int, n_features: int, n_samples: int, keeps_draws: bool):
        self.keeps_draws = keeps_draws and n_samples > 1
        self.n_samples = n_samples
        shape = (n_cells, n_features, n_samples) if self.keeps_draws else (n_cells, n_features)
        self.array: npt.NDArray[np.float32] = np.zeros(shape, np.float32)

    def take(self, rows: slice, sample: int, values: Tensor) -> None:
        """Take a draw of these cells, (cells, features) or (features,) where all cells share it."""
        if self.keeps_draws:
            self.array[rows, :, sample] = values.cpu().numpy()
        else:
            self.array[rows] += values.cpu().numpy() / self.n_samples


def with_rows(batches: Iterator[CellPosterior]) -> Iterator[tuple[slice, CellPosterior]]:
    """Say of each mini-batch which rows of the result are its cells'."""
    start = 0
    for posterior in batches:
        stop = start + posterior.cells.n_cells
        yield slice(start, stop), posterior
        start = stop
