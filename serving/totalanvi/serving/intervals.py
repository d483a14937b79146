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

__all__ = ["COVERAGES", "MAX_COVERAGE", "MIN_COVERAGE", "Intervals", "read_bound"]

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
    >>> low, high = Intervals(np.log1p([[9.0]]), *at_knot).bounds(np.array([[9.0]]), coverage=0.9)
    >>> low.round(3).tolist(), high.round(3).tolist()
    ([[4.0]], [[19.0]])
    """

    knots: npt.NDArray[np.floating]
    low: npt.NDArray[np.floating]
    high: npt.NDArray[np.floating]

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
        # Proteins first: each is read along a row of cells.
        level = np.log1p(np.ascontiguousarray(np.asarray(expected, dtype=np.float64).T))
        place = float(np.interp(coverage, COVERAGES, np.arange(len(COVERAGES))))
        left = min(int(place), len(COVERAGES) - 2)
        weight = place - left

        def bound(stored: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
            at_knots = (1 - weight) * stored[..., left] + weight * stored[..., left + 1]
            read = np.stack([read_bound(*of_protein) for of_protein in zip(level, self.knots, at_knots, strict=True)])
            with np.errstate(over="ignore"):
                counts = np.clip(np.expm1(read, out=read), 0, np.finfo(np.float32).max, out=read)
            return np.ascontiguousarray(counts.T, dtype=np.float32)

        return bound(self.low), bound(self.high)


def read_bound(
    level: npt.NDArray[np.floating], knots: npt.NDArray[np.floating], at_knots: npt.NDArray[np.floating]
) -> npt.NDArray[np.float64]:
    """Read a bound between its values at the knots of one protein, (cells,).

    Parameters
    ----------
    level
        ``log1p`` of expected counts, (cells,).
    knots
        Ascending, (knots,).
    at_knots
        ``log1p`` of the bound there, (knots,).
    """
    exact = np.asarray(level, dtype=np.float64)
    # Beyond the outer knots the bound keeps its distance to what is expected.
    within = np.minimum(np.maximum(exact, knots[0]), knots[-1])
    return np.asarray(np.interp(exact, knots, at_knots) + (exact - within))
