"""Values between knots, for all proteins of some cells at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from totalanvi.serving.engine.compiled import compiled, given, room

__all__ = ["Curves", "compiled_curves", "read_curves"]

Doubles = npt.NDArray[np.float64]


class Curves:
    """Curves of each protein, straight lines from knot to knot; several of them have the same knots.

    Parameters
    ----------
    knots
        Ascending, (proteins, knots).
    *values
        Of the curves at the knots, each (proteins, knots).
    rising
        Whether a curve goes on at 45° beyond its outer knots, rather than level.

    Examples
    --------
    >>> curves = Curves(np.array([[0.0, 1.0]]), np.array([[2.0, 4.0]]), np.array([[0.0, 1.0]]))
    >>> curves.read(np.array([[0.5], [3.0]])).ravel().tolist()
    [3.0, 4.0, 0.5, 1.0]
    """

    def __init__(
        self, knots: npt.NDArray[np.floating], *values: npt.NDArray[np.floating], rising: bool = False
    ) -> None:
        # Knots first, so that all proteins are compared with their own at once.
        starts = np.ascontiguousarray(knots.T, dtype=np.float64)
        at_knots = np.stack([np.ascontiguousarray(each.T, dtype=np.float64) for each in values])
        runs = np.diff(starts, axis=0)
        # Of equal knots the last one counts: the slope between them is not asked for.
        slopes = np.diff(at_knots, axis=1) / np.where(runs == 0, 1, runs)
        beyond = np.full((len(values), 1, starts.shape[1]), float(rising))
        self._starts = np.concatenate([starts[:1], starts])
        self._values = np.concatenate([at_knots[:, :1], at_knots], axis=1)
        self._slopes = np.concatenate([beyond, slopes, beyond], axis=1)

    def line_table(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return the straight lines that the curves are made of, for a graph that reads them.

        Returns
        -------
        first : numpy.ndarray
            Which line is a protein's first one, (1, proteins). It lies before all knots; the others begin at one each.
        lines : numpy.ndarray
            Where each begins, then for each curve its values there and its slopes, (1 + 2 curves, lines).
        """
        n_lines, n_proteins = self._starts.shape
        values_and_slopes = np.stack([self._values, self._slopes], axis=1).reshape(-1, n_lines, n_proteins)
        by_protein = np.concatenate([self._starts[None], values_and_slopes]).transpose(0, 2, 1)
        lines = by_protein.reshape(len(by_protein), n_proteins * n_lines).astype(np.float32)
        return np.arange(n_proteins, dtype=np.float32)[None] * n_lines, lines

    def read(self, places: npt.NDArray[np.floating]) -> Doubles:
        """Read the curves, (curves, cells, proteins).

        Parameters
        ----------
        places
            Where to read, (cells, proteins).

        Notes
        -----
        The same numbers as `numpy.interp` gives for a protein: one call for all of them holds no lock of Python
        meanwhile.
        """
        exact = np.ascontiguousarray(places, dtype=np.float64)
        read = np.empty((len(self._values), *exact.shape))
        line = np.empty(exact.shape[1], dtype=np.int64)
        compiled_curves()(exact, self._starts, self._values, self._slopes, line, read)
        return read


def read_curves(
    places: npt.NDArray[np.floating],
    knots: npt.NDArray[np.floating],
    values: npt.NDArray[np.floating],
    *,
    rising: bool = False,
) -> Doubles:
    """Read one curve of each protein, (cells, proteins): see `Curves`.

    Examples
    --------
    >>> read_curves(np.array([[0.5], [3.0]]), np.array([[0.0, 1.0]]), np.array([[2.0, 4.0]])).ravel().tolist()
    [3.0, 4.0]
    >>> read_curves(np.array([[3.0]]), np.array([[0.0, 1.0]]), np.array([[2.0, 4.0]]), rising=True).ravel().tolist()
    [6.0]
    """
    read: Doubles = Curves(knots, values, rising=rising).read(places)[0]
    return read


def compiled_curves() -> Callable[..., None]:
    """Return the reading of curves, compiled."""
    return compiled(
        _read,
        given("float64", 2),
        given("float64", 2),
        given("float64", 3),
        given("float64", 3),
        room("int64", 1),
        room("float64", 3),
        as_written=True,
    )


def _read(
    places: Doubles, starts: Doubles, values: Doubles, slopes: Doubles, line: npt.NDArray[np.int64], read: Doubles
) -> None:
    """Fill ``read``; compiled by numba.

    The lines are (knots + 1, proteins): where each starts, its values there, and its slopes. The first one lies before
    all knots, and goes through the first of them. ``line`` is room for which one a protein is on.
    """
    n_lines, n_proteins = starts.shape
    for row in range(places.shape[0]):
        for protein in range(n_proteins):
            line[protein] = 0
        for k in range(1, n_lines):
            for protein in range(n_proteins):
                line[protein] += 1 if starts[k, protein] <= places[row, protein] else 0
        for curve in range(values.shape[0]):
            for protein in range(n_proteins):
                on = np.uint32(line[protein])  # never negative, so that nothing is counted from the end
                beyond = places[row, protein] - starts[on, protein]
                read[curve, row, protein] = slopes[curve, on, protein] * beyond + values[curve, on, protein]
