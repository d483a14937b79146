"""Bounds of the counts of imputed proteins: see `totalanvi.serving.intervals`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from totalanvi.serving.engine.curves import Curves, read_curves
from totalanvi.serving.intervals import Intervals

__all__ = ["Bounds", "bounds", "read_bounds"]

Floats = npt.NDArray[np.float32]
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
    """

    def __init__(self, intervals: Intervals, coverage: float) -> None:
        # Beyond the outer knots a bound keeps its distance to what is expected.
        self.curves = Curves(intervals.knots, *intervals.at(coverage), rising=True)

    def read(self, expected: npt.NDArray[np.floating]) -> Doubles:
        """Return the lower and the upper bound of each count, (2, cells, proteins), as `bounds` does.

        Parameters
        ----------
        expected
            Counts with background, (cells, proteins).
        """
        counts = self.curves.read(np.log1p(expected, dtype=np.float64))
        with np.errstate(over="ignore"):
            np.expm1(counts, out=counts)
        return np.clip(counts, 0, _LARGEST, out=counts)


def bounds(intervals: Intervals, expected: npt.NDArray[np.floating], coverage: float) -> tuple[Floats, Floats]:
    """Return the lower and the upper bound of each count, (cells, proteins).

    Parameters
    ----------
    intervals
        Of the proteins.
    expected
        Counts with background, (cells, proteins).
    coverage
        Share of counts that are to lie within.

    Returns
    -------
    low, high
        0 ≤ low ≤ high; NaN for a protein without knots.

    Examples
    --------
    >>> from totalanvi.serving.intervals import COVERAGES
    >>> at_knot = np.log1p([[[9.0]]]) + np.log(2) * np.array([-1, 1])[:, None, None, None] * np.ones(len(COVERAGES))
    >>> low, high = bounds(Intervals(np.log1p([[9.0]]), *at_knot), np.array([[9.0]]), coverage=0.9)
    >>> low.round(3).tolist(), high.round(3).tolist()
    ([[4.0]], [[19.0]])
    """
    low, high = Bounds(intervals, coverage).read(expected).astype(np.float32)
    return low, high


def read_bounds(
    level: npt.NDArray[np.floating], knots: npt.NDArray[np.floating], at_knots: npt.NDArray[np.floating]
) -> Doubles:
    """Read a bound of each protein between its values at the knots, (cells, proteins).

    Parameters
    ----------
    level
        ``log1p`` of expected counts, (cells, proteins).
    knots
        Ascending, (proteins, knots).
    at_knots
        ``log1p`` of the bound there, (proteins, knots).
    """
    return read_curves(level, knots, at_knots, rising=True)
