"""Bounds of the counts of imputed proteins: see `totalanvi.serving.intervals`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from totalanvi.serving.engine.curves import read_curves
from totalanvi.serving.intervals import Intervals

__all__ = ["bounds", "read_bounds"]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

_LARGEST = np.finfo(np.float32).max


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
    level = np.log1p(expected, dtype=np.float64)
    low, high = intervals.at(coverage)
    return _counts(read_bounds(level, intervals.knots, low)), _counts(read_bounds(level, intervals.knots, high))


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
    # Beyond the outer knots the bound keeps its distance to what is expected.
    return read_curves(level, knots, at_knots, rising=True)


def _counts(level: Doubles) -> Floats:
    with np.errstate(over="ignore"):
        counts = np.expm1(level, out=level)
    return np.clip(counts, 0, _LARGEST, out=counts).astype(np.float32)
