"""Intervals for the counts of imputed proteins, from how far held-out cells' counts lay from what was expected.

The bundle holds, for each protein and a few expected levels ("knots"), quantiles of the residuals
``log1p(measured) − log1p(expected)`` of held-out reference cells that were imputed from RNA alone. A cell's interval is
read between the knots that its own expected count lies between, so that its width follows the level. Bounds rise with
the expected count, and are continuous in it. Either tail is left out alike; but where so many counts are zero that the
lower bound is zero, no count lies below it, and the upper tail alone is left out.

References
----------
Lei, G'Sell, Rinaldo, Tibshirani, Wasserman: Distribution-free predictive inference for regression. JASA 2018. Boström,
Johansson: Mondrian conformal regressors. COPA 2020 (residuals by level).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["LEVELS", "MAX_COVERAGE", "MIN_COVERAGE", "Intervals"]

_TAIL = (0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0.1, 0.125, 0.15, 0.175, 0.2, 0.25)

LEVELS: tuple[float, ...] = (*_TAIL, *(round(1 - level, 3) for level in reversed(_TAIL)))
"""Of the quantiles that a bundle holds; those between are interpolated."""

MIN_COVERAGE, MAX_COVERAGE = 0.5, 0.99
"""What can be asked for: the quantiles reach from half a per cent to a quarter, at either end."""


@dataclass(frozen=True, eq=False)
class Intervals:
    """What is known of imputed counts.

    Parameters
    ----------
    knots
        ``log1p`` of expected counts, ascending, (proteins, knots); NaN for a protein of which too little is known.
    residuals
        Quantiles of the residuals there, at `LEVELS`, (proteins, knots, levels).

    Examples
    --------
    >>> intervals = Intervals(np.zeros((1, 1)), np.array([[np.log(2) * np.sign(np.array(LEVELS) - 0.5)]]))
    >>> low, high = intervals.bounds(np.array([[9.0]]), coverage=0.9)
    >>> low.round(3).tolist(), high.round(3).tolist()
    ([[4.0]], [[19.0]])
    """

    knots: npt.NDArray[np.floating]
    residuals: npt.NDArray[np.floating]

    def bounds(
        self, expected: npt.NDArray[np.floating], coverage: float
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return the lower and the upper bound of each count, (cells, proteins).

        Parameters
        ----------
        expected
            Counts with background, (cells, proteins).
        coverage
            Share of counts that are to lie within, from `MIN_COVERAGE` to `MAX_COVERAGE`.

        Returns
        -------
        low, high
            0 ≤ low ≤ high; NaN for a protein without knots.
        """
        level = np.log1p(np.asarray(expected, dtype=np.float64))
        low = self._at_knots((1 - coverage) / 2)
        high = np.where(low > 0, self._at_knots((1 + coverage) / 2), self._at_knots(coverage))
        return self._between(level, low), self._between(level, high)

    def _at_knots(self, share: float) -> npt.NDArray[np.float64]:
        """Return the log1p of what this share of counts lies below at each knot, (proteins, knots)."""
        place = float(np.interp(share, LEVELS, np.arange(len(LEVELS))))
        left = min(int(place), len(LEVELS) - 2)
        weight = place - left
        residual = (1 - weight) * self.residuals[..., left] + weight * self.residuals[..., left + 1]
        return np.asarray(self.knots + residual, dtype=np.float64)

    def _between(self, level: npt.NDArray[np.float64], at_knots: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """Read a bound at the level of each count, (cells, proteins)."""
        knots = np.asarray(self.knots, dtype=np.float64)
        at_knots = np.maximum.accumulate(at_knots, axis=1)
        bound = np.empty(level.shape, dtype=np.float32)
        for j in range(level.shape[1]):
            # Beyond the outer knots the residual stays what it is there.
            beyond = level[:, j] - np.clip(level[:, j], knots[j, 0], knots[j, -1])
            with np.errstate(over="ignore"):
                bound[:, j] = np.expm1(np.interp(level[:, j], knots[j], at_knots[j]) + beyond)
        return np.clip(bound, np.float32(0), np.finfo(np.float32).max)
