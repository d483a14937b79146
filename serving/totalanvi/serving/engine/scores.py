"""What a model makes of cells before any of it is calibrated: the seam between the graphs and the statistics.

Whatever computes these, the rest follows from them: probabilities and label sets from logits, novelty from its score,
intervals from expected counts. The export stage calibrates the same numbers that the endpoint serves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Imputed", "Scores"]


@dataclass(frozen=True, eq=False)
class Imputed:
    """Proteins of cells, as means over posterior samples and batches.

    Parameters
    ----------
    denoised, expected
        Counts without background and with it, (cells, proteins), float32.
    foreground
        Probability that a count is more than background, (cells, proteins), float32.
    """

    denoised: npt.NDArray[np.float32]
    expected: npt.NDArray[np.float32]
    foreground: npt.NDArray[np.float32]

    @classmethod
    def empty(cls, n_cells: int, n_proteins: int) -> Imputed:
        """Make room for cells that are imputed block by block."""
        return cls(*(np.empty((n_cells, n_proteins), dtype=np.float32) for _ in range(3)))

    def rows(self, rows: slice) -> Imputed:
        """Take a part of the cells."""
        return Imputed(*(array[rows] for array in vars(self).values()))

    def put(self, rows: slice, block: Imputed) -> None:
        """Fill rows with the first of a block's, which may have been padded."""
        for name, array in vars(self).items():
            array[rows] = getattr(block, name)[: rows.stop - rows.start]


@dataclass(frozen=True, eq=False)
class Scores:
    """One row per cell.

    Parameters
    ----------
    latent
        Posterior mean after the latent transformation, (cells, n_latent), float32.
    coordinates
        Place on the reference's 2-D map, (cells, 2), float32.
    logits
        Before any temperature, (cells, labels), float32.
    strangeness
        Measures of what is unlike the reference, each on a scale of its own, (cells, measures), float64.
    novelty
        A score that rises with them, on any scale, (cells,), float64.
    imputed
        None when proteins were not asked for.
    """

    latent: npt.NDArray[np.float32]
    coordinates: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float32]
    strangeness: npt.NDArray[np.float64]
    novelty: npt.NDArray[np.float64]
    imputed: Imputed | None

    def rows(self, rows: slice) -> Scores:
        """Take a part of the cells."""
        imputed = None if self.imputed is None else self.imputed.rows(rows)
        return Scores(
            self.latent[rows],
            self.coordinates[rows],
            self.logits[rows],
            self.strangeness[rows],
            self.novelty[rows],
            imputed,
        )
