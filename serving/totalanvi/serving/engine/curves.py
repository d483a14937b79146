"""Values between knots, for all proteins of some cells at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from totalanvi.serving.engine.compiled import compiled, given, room

__all__ = ["compiled_curves", "read_curves"]

Doubles = npt.NDArray[np.float64]


def read_curves(
    places: npt.NDArray[np.floating],
    knots: npt.NDArray[np.floating],
    values: npt.NDArray[np.floating],
    *,
    rising: bool = False,
) -> Doubles:
    """Read the curve of each protein, a straight line from knot to knot, (cells, proteins).

    Parameters
    ----------
    places
        Where to read, (cells, proteins).
    knots
        Ascending, (proteins, knots).
    values
        Of the curves at the knots, (proteins, knots).
    rising
        Whether a curve goes on at 45° beyond its outer knots, rather than level.

    Notes
    -----
    The same numbers as `numpy.interp` gives for a protein: one call for all of them holds no lock of Python meanwhile.

    Examples
    --------
    >>> read_curves(np.array([[0.5], [3.0]]), np.array([[0.0, 1.0]]), np.array([[2.0, 4.0]])).ravel().tolist()
    [3.0, 4.0]
    >>> read_curves(np.array([[3.0]]), np.array([[0.0, 1.0]]), np.array([[2.0, 4.0]]), rising=True).ravel().tolist()
    [6.0]
    """
    exact = np.ascontiguousarray(places, dtype=np.float64)
    # Knots first, so that all proteins are compared with their own at once.
    knots, values = (np.ascontiguousarray(array.T, dtype=np.float64) for array in (knots, values))
    runs = np.diff(knots, axis=0)
    # Of equal knots the last one counts: the slope between them is not asked for.
    slopes = np.diff(values, axis=0) / np.where(runs == 0, 1, runs)
    beyond = np.full((1, knots.shape[1]), float(rising))
    read = np.empty_like(exact)
    compiled_curves()(
        exact,
        np.concatenate([knots[:1], knots]),
        np.concatenate([values[:1], values]),
        np.concatenate([beyond, slopes, beyond]),
        read,
    )
    return read


def compiled_curves() -> Callable[..., None]:
    """Return the reading of curves, compiled."""
    return compiled(
        _read,
        given("float64", 2),
        given("float64", 2),
        given("float64", 2),
        given("float64", 2),
        room("float64", 2),
        as_written=True,
    )


def _read(places: Doubles, starts: Doubles, values: Doubles, slopes: Doubles, read: Doubles) -> None:
    """Fill ``read``; compiled by numba.

    The lines are (knots + 1, proteins): where each starts, its value there, and its slope. The first one lies before
    all knots, and goes through the first of them.
    """
    n_lines, n_proteins = starts.shape
    line = np.empty(n_proteins, np.int64)
    for row in range(places.shape[0]):
        for protein in range(n_proteins):
            line[protein] = 0
        for k in range(1, n_lines):
            for protein in range(n_proteins):
                line[protein] += 1 if starts[k, protein] <= places[row, protein] else 0
        for protein in range(n_proteins):
            on = np.uint32(line[protein])  # never negative, so that nothing is counted from the end
            beyond = places[row, protein] - starts[on, protein]
            read[row, protein] = slopes[on, protein] * beyond + values[on, protein]
