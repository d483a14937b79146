"""Intervals of imputed counts: quantiles of held-out residuals, level by level."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from totalanvi.serving.intervals import LEVELS, Intervals

__all__ = ["FEWEST_CELLS", "fit_intervals"]

FEWEST_CELLS = 20
"""With fewer, the outer twentieths are not a single cell."""

_CELLS_PER_KNOT = 50
_MOST_KNOTS = 10


def fit_intervals(
    counts: npt.NDArray[np.floating], measured: npt.NDArray[np.bool_], expected: npt.NDArray[np.floating]
) -> Intervals:
    """Learn how far measured counts lie from what is expected of them.

    Parameters
    ----------
    counts
        Of held-out cells, (cells, proteins).
    measured
        Which of them were measured, (cells, proteins).
    expected
        The same counts imputed from RNA alone, with background, (cells, proteins).

    Returns
    -------
    Intervals
        Of up to ten knots with the same number of cells around each, at least fifty where there is more than one; NaN
        for proteins that fewer than `FEWEST_CELLS` cells measured. Quantiles are those of rank (cells + 1) · level, so
        that a new cell falls below them as often as the level says.
    """
    n_proteins = counts.shape[1]
    knots = np.full((n_proteins, _MOST_KNOTS), np.nan, dtype=np.float32)
    residuals = np.full((n_proteins, _MOST_KNOTS, len(LEVELS)), np.nan, dtype=np.float32)
    for j in range(n_proteins):
        rows = np.flatnonzero(measured[:, j])
        if len(rows) < FEWEST_CELLS:
            continue
        level = np.log1p(expected[rows, j].astype(np.float64))
        residual = np.log1p(counts[rows, j].astype(np.float64)) - level
        n_knots = min(_MOST_KNOTS, max(1, len(rows) // _CELLS_PER_KNOT))
        groups = np.array_split(np.argsort(level, kind="stable"), n_knots)
        # The last knot stands in for those that there are too few cells for.
        for place in range(_MOST_KNOTS):
            group = groups[min(place, n_knots - 1)]
            knots[j, place] = np.median(level[group])
            residuals[j, place] = np.quantile(residual[group], LEVELS, method="weibull")
    return Intervals(knots, residuals)
