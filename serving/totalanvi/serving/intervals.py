"""Intervals for the counts of imputed proteins, from how far held-out cells' counts lay from what was expected.

The bundle holds, for each protein, the bounds of intervals at a few expected levels ("knots") and for a few coverages.
They were fitted to held-out reference cells that were imputed from RNA alone. A cell's interval is read between the
knots that its own expected count lies between, so that its width follows the level. Bounds rise with the expected
count, and are continuous in it.

References
----------
Romano, Patterson, Candès: Conformalized quantile regression. NeurIPS 2019. Boström, Johansson: Mondrian conformal
regressors. COPA 2020 (intervals by level).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["COVERAGES", "MAX_COVERAGE", "MIN_COVERAGE", "Intervals"]

COVERAGES = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99)
"""Those that a bundle holds bounds for; between them, bounds are interpolated."""

MIN_COVERAGE, MAX_COVERAGE = COVERAGES[0], COVERAGES[-1]


@dataclass(frozen=True, eq=False)
class Intervals:
    """What is known of imputed counts; NaN throughout for a protein of which too little is known.

    Parameters
    ----------
    knots
        ``log1p`` of expected counts, ascending, (proteins, knots).
    low, high
        ``log1p`` of the bounds there, for `COVERAGES`, (proteins, knots, coverages); neither falls from knot to knot.
        What lies below zero stands for zero.

    Examples
    --------
    >>> at_knot = np.log1p([[[9.0]]]) + np.log(2) * np.array([-1, 1])[:, None, None, None] * np.ones(len(COVERAGES))
    >>> low, high = Intervals(np.log1p([[9.0]]), *at_knot).at(coverage=0.9)
    >>> np.expm1(low).round(3).tolist(), np.expm1(high).round(3).tolist()
    ([[4.0]], [[19.0]])
    """

    knots: npt.NDArray[np.floating]
    low: npt.NDArray[np.floating]
    high: npt.NDArray[np.floating]

    def at(self, coverage: float) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]:
        """Return the lower and the upper bound at the knots for one coverage, (proteins, knots).

        Parameters
        ----------
        coverage
            Share of counts that are to lie within, from `MIN_COVERAGE` to `MAX_COVERAGE`.
        """
        place = float(np.interp(coverage, COVERAGES, np.arange(len(COVERAGES))))
        left = min(int(place), len(COVERAGES) - 2)
        weight = place - left

        def between(stored: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
            return np.asarray((1 - weight) * stored[..., left] + weight * stored[..., left + 1])

        return between(self.low), between(self.high)
