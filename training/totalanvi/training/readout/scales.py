"""Protein counts on a common scale: log(1 + count), centred and divided by its spread."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from totalanvi.training.data import Cells

__all__ = ["ProteinScales"]

_FEWEST_CELLS = 50
"""Cells of a batch that a scale of its own can be learned from."""

_LEAST_SPREAD = 0.05
"""A protein that hardly varies is not blown up."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ProteinScales:
    """Centre and spread of log(1 + count).

    Parameters
    ----------
    centre, spread
        Over all cells that measured a protein, (proteins,): what a cell of an unknown batch is held against.
    batch_centre, batch_spread
        The same within each batch, (batches, proteins); those of all cells where a batch has measured it too seldom.
    """

    centre: Floats
    spread: Floats
    batch_centre: Floats
    batch_spread: Floats

    @classmethod
    def learn(cls, cells: Cells, n_batches: int) -> ProteinScales:
        """Learn the scales of cells.

        Parameters
        ----------
        cells
            Of the reference.
        n_batches
            Batches of the model.

        Examples
        --------
        >>> ProteinScales.learn(cells, n_batches=2).batch_centre.shape  # doctest: +SKIP
        (2, 14)
        """
        logs = np.log1p(cells.protein, dtype=np.float64)
        centre, spread = _moments(logs, cells.measured, np.zeros(logs.shape[1]), np.ones(logs.shape[1]), 1)
        batches = [
            _moments(logs[of], cells.measured[of], centre, spread, _FEWEST_CELLS)
            for of in (cells.batch == batch for batch in range(n_batches))
        ]
        centres, spreads = (np.array(rows, dtype=np.float32) for rows in zip(*batches, strict=True))
        return cls(centre.astype(np.float32), spread.astype(np.float32), centres, spreads)

    def of_query(self, protein: npt.NDArray[np.floating]) -> Floats:
        """Standardise counts as if the batch were unknown, (cells, proteins)."""
        return np.asarray((np.log1p(protein) - self.centre) / self.spread, dtype=np.float32)

    def within_batch(self, cells: Cells) -> Floats:
        """Standardise the counts of cells within their batches, (cells, proteins)."""
        centred = np.log1p(cells.protein) - self.batch_centre[cells.batch]
        return np.asarray(centred / self.batch_spread[cells.batch], dtype=np.float32)


def _moments(
    logs: npt.NDArray[np.float64],
    measured: npt.NDArray[np.bool_],
    centre: npt.NDArray[np.float64],
    spread: npt.NDArray[np.float64],
    fewest: int,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and standard deviation of each column over what was measured, or what is given where that is too little."""
    n_cells = measured.sum(axis=0)
    enough = n_cells >= fewest
    divisor = np.maximum(n_cells, 1)
    mean = np.where(measured, logs, 0).sum(axis=0) / divisor
    variance = (np.where(measured, logs - mean, 0) ** 2).sum(axis=0) / divisor
    return np.where(enough, mean, centre), np.where(enough, np.maximum(np.sqrt(variance), _LEAST_SPREAD), spread)
