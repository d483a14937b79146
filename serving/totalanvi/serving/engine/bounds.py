"""Bounds of the counts of imputed proteins: see `totalanvi.serving.intervals`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from totalanvi.serving.engine.curves import Curves
from totalanvi.serving.intervals import Intervals

__all__ = ["Bounds"]

Doubles = npt.NDArray[np.float64]

_LARGEST = np.finfo(np.float32).max


class Bounds:
    """The intervals of one coverage.

    Parameters
    ----------
    intervals
        Of the proteins.
    coverage
        Share of counts that are to lie within.

    Attributes
    ----------
    curves : Curves
        The lower and the upper bound over what is expected, both as ``log1p``.

    Examples
    --------
    >>> from totalanvi.serving.intervals import COVERAGES
    >>> at_knot = np.log1p([[[9.0]]]) + np.log(2) * np.array([-1, 1])[:, None, None, None] * np.ones(len(COVERAGES))
    >>> low, high = Bounds(Intervals(np.log1p([[9.0]]), *at_knot), coverage=0.9).read(np.array([[9.0]]))
    >>> low.round(3).tolist(), high.round(3).tolist()
    ([[4.0]], [[19.0]])
    """

    def __init__(self, intervals: Intervals, coverage: float) -> None:
        # Beyond the outer knots a bound keeps its distance to what is expected.
        self.curves = Curves(intervals.knots, *intervals.at(coverage), rising=True)

    def read(self, expected: npt.NDArray[np.floating]) -> Doubles:
        """Return the lower and the upper bound of each count, (2, cells, proteins).

        Parameters
        ----------
        expected
            Counts with background, (cells, proteins).

        Returns
        -------
        numpy.ndarray
            0 ≤ lower ≤ upper; NaN for a protein without knots.
        """
        counts = self.curves.read(np.log1p(expected, dtype=np.float64))
        with np.errstate(over="ignore"):
            np.expm1(counts, out=counts)
        return np.clip(counts, 0, _LARGEST, out=counts)
