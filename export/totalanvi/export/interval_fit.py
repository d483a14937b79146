"""Intervals of imputed counts: quantiles of held-out residuals, level by level, and the coverage that they really have.

Quantiles of the cells around a knot follow the level, but they need not rise with it, and what is read between knots is
not quite a quantile. So bounds are made to rise (isotonic regression), and for each coverage those quantiles are taken
whose bounds hold that share of counts of cells that they were not fitted to.

References
----------
Romano, Patterson, Candès: Conformalized quantile regression. NeurIPS 2019. Barber, Candès, Ramdas, Tibshirani:
Predictive inference with the jackknife+. Annals of Statistics 2021 (cross-fitting).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression

from totalanvi.serving.engine.curves import read_curves
from totalanvi.serving.intervals import COVERAGES, Intervals

__all__ = ["FEWEST_CELLS", "fit_intervals"]

FEWEST_CELLS = 20
"""With fewer, the outer twentieths are not a single cell."""

_CELLS_PER_KNOT = 50
_MOST_KNOTS = 10
_N_FOLDS = 5

_NOMINAL = np.concatenate([np.linspace(0.3, 0.9, 25), np.linspace(0.91, 1, 19)])
"""Shares of the cells around a knot, of which those with the right coverage are chosen."""

Floats = npt.NDArray[np.float64]


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
        for proteins that fewer than `FEWEST_CELLS` cells measured.
    """
    n_proteins = counts.shape[1]
    knots = np.full((n_proteins, _MOST_KNOTS), np.nan, dtype=np.float32)
    low = np.full((n_proteins, _MOST_KNOTS, len(COVERAGES)), np.nan, dtype=np.float32)
    high = low.copy()
    for j in range(n_proteins):
        rows = np.flatnonzero(measured[:, j])
        if len(rows) >= FEWEST_CELLS:
            level, count = (np.log1p(values[rows, j].astype(np.float64)) for values in (expected, counts))
            knots[j], low[j], high[j] = _fit_protein(level, count)
    return Intervals(knots, low, high)


def _fit_protein(level: Floats, count: Floats) -> tuple[Floats, Floats, Floats]:
    """Return knots, (knots,), and the bounds there, (knots, coverages); the last knot fills the places not needed."""
    knots, low, high = _nominal_bounds(level, count)
    within = _cross_fitted_coverage(level, count)
    # One cell more, the new one: with few cells, as many of these must lie within as makes up for it.
    wanted = np.minimum(np.array(COVERAGES) * (len(count) + 1) / len(count), within[-1])
    place = np.interp(wanted, within, np.arange(len(_NOMINAL)))
    left = np.minimum(place.astype(int), len(_NOMINAL) - 2)
    weight = place - left
    low, high = ((1 - weight) * bound[:, left] + weight * bound[:, left + 1] for bound in (low, high))
    places = np.minimum(np.arange(_MOST_KNOTS), len(knots) - 1)
    return knots[places], low[places], high[places]


def _nominal_bounds(level: Floats, count: Floats) -> tuple[Floats, Floats, Floats]:
    """Return knots, (knots,), and what holds each of `_NOMINAL` of the cells around them, (knots, nominal)."""
    n_knots = min(_MOST_KNOTS, max(1, len(level) // _CELLS_PER_KNOT))
    groups = np.array_split(np.argsort(level, kind="stable"), n_knots)
    knots = np.array([np.median(level[group]) for group in groups])

    def at_knots(shares: Floats) -> Floats:
        residuals = [np.quantile((count - level)[group], shares, method="weibull") for group in groups]
        return knots[:, None] + np.stack(residuals)

    low = at_knots((1 - _NOMINAL) / 2)
    # Where so many counts are zero that none lies below the lower bound, all that is left out lies above.
    high = np.where(low > 0, at_knots((1 + _NOMINAL) / 2), at_knots(_NOMINAL))
    low, high = (np.stack([isotonic_regression(column).x for column in bound.T], axis=1) for bound in (low, high))
    return knots, low, high


def _cross_fitted_coverage(level: Floats, count: Floats) -> Floats:
    """Return the share of counts within each of `_NOMINAL`, fitted to other cells, ascending, (nominal,)."""
    within = np.zeros(len(_NOMINAL))
    fold = np.arange(len(level)) % _N_FOLDS
    for left_out in range(_N_FOLDS):
        judged = fold == left_out
        knots, low, high = _nominal_bounds(level[~judged], count[~judged])
        places = level[judged, None]
        for i in range(len(_NOMINAL)):
            above = read_curves(places, knots[None], low[None, :, i], rising=True)[:, 0] <= count[judged]
            below = count[judged] <= read_curves(places, knots[None], high[None, :, i], rising=True)[:, 0]
            within[i] += (above & below).sum()
    return np.maximum.accumulate(within / len(level))
