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
    bounds
        The lower and the upper bound of a count, each (cells, proteins), float32, where a device has imputed: then
        nothing is left to do.
    """

    denoised: npt.NDArray[np.float32]
    expected: npt.NDArray[np.float32]
    foreground: npt.NDArray[np.float32]
    bounds: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None = None

    @classmethod
    def room(cls, n_cells: int, n_proteins: int) -> Imputed:
        """Make room for cells that are imputed part by part."""
        denoised, expected, foreground = (np.empty((n_cells, n_proteins), dtype=np.float32) for _ in range(3))
        return cls(denoised, expected, foreground)

    def rows(self, rows: slice) -> Imputed:
        """Take a part of the cells."""
        bounds = None if self.bounds is None else (self.bounds[0][rows], self.bounds[1][rows])
        return Imputed(self.denoised[rows], self.expected[rows], self.foreground[rows], bounds)

    def put(self, rows: slice, part: Imputed) -> None:
        """Fill in a part of the cells, but for its bounds."""
        for name in ("denoised", "expected", "foreground"):
            getattr(self, name)[rows] = getattr(part, name)


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

    @classmethod
    def room(cls, n_cells: int, n_labels: int, n_latent: int, n_measures: int, n_proteins: int | None) -> Scores:
        """Make room for cells that are scored part by part; None where proteins are not asked for."""
        floats, doubles = np.dtype(np.float32), np.dtype(np.float64)
        return cls(
            np.empty((n_cells, n_latent), floats),
            np.empty((n_cells, 2), floats),
            np.empty((n_cells, n_labels), floats),
            np.empty((n_cells, n_measures), doubles),
            np.empty(n_cells, doubles),
            None if n_proteins is None else Imputed.room(n_cells, n_proteins),
        )

    def put(self, rows: slice, part: Scores) -> None:
        """Fill in a part of the cells."""
        for name in ("latent", "coordinates", "logits", "strangeness", "novelty"):
            getattr(self, name)[rows] = getattr(part, name)
        if self.imputed is not None and part.imputed is not None:
            self.imputed.put(rows, part.imputed)
