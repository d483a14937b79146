"""The nearest of a few thousand points in twenty dimensions: exact, for each cell by itself.

Points lie in groups, boxes that halve the widest direction again and again. A group is looked at only if its box is not
farther than what was found so far. The search compares in single precision; what it finds, with a few to spare, is
measured in double precision, and put into that order.

References
----------
Friedman, Bentley, Finkel: An algorithm for finding best matches in logarithmic expected time. ACM TOMS 3 (1977).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from totalanvi.serving.engine.aligned import aligned, aligned_room
from totalanvi.serving.engine.compiled import compiled, given, room
from totalanvi.serving.engine.nearest_in_group import GROUP, keeping_nearest

__all__ = ["NearestSearch", "compiled_search"]

_INFINITE_BITS = 0x7F800000
"""Of a number in single precision that no distance reaches."""

_LANES = 16
"""Boxes are as many as fill the widest registers."""

_KEPT, _SPARE = 24, 4
"""Points that are kept on the way, and how many more are measured than asked for: rounding may have swapped some."""

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


class NearestSearch:
    """Finds the nearest of some points.

    Parameters
    ----------
    points
        (points, dimensions).

    Examples
    --------
    >>> search = NearestSearch(np.float32([[0, 0], [3, 0], [0, 1]]))
    >>> index, distance = search.find(np.float32([[2, 0]]), 2)
    >>> index.tolist(), distance.tolist()
    ([[1, 0]], [[1.0, 2.0]])
    """

    def __init__(self, points: Floats) -> None:
        self._points = np.ascontiguousarray(points, dtype=np.float32)
        groups = _halved(self._points, np.arange(len(points)))
        # Infinitely far, so that nothing that fills up a group is ever found.
        self._groups = aligned_room((len(groups), self._points.shape[1], GROUP), np.float32)
        self._groups[...] = np.inf
        self._members = np.zeros((len(groups), GROUP), dtype=np.int32)
        for number, group in enumerate(groups):
            self._groups[number, :, : len(group)] = self._points[group].T
            self._members[number, : len(group)] = group
        self._low = _boxes([self._points[group].min(axis=0) for group in groups])
        self._high = _boxes([self._points[group].max(axis=0) for group in groups])
        self._search = compiled_search()

    def find(self, cells: Floats, n_nearest: int) -> tuple[npt.NDArray[np.int64], Doubles]:
        """Return index and Euclidean distance of the nearest points, the nearest first, (cells, nearest).

        Parameters
        ----------
        cells
            Where they lie, (cells, dimensions), finite.
        n_nearest
            How many points, at most as many as there are.

        Raises
        ------
        ValueError
            When more are asked for than the search can keep.
        """
        if n_nearest > _KEPT - _SPARE:
            raise ValueError(f"n_nearest: expected {_KEPT - _SPARE} at most, found {n_nearest}; ask for fewer.")
        cells = np.require(cells, np.float32, ["C", "A"])
        index = np.empty((len(cells), n_nearest), dtype=np.int64)
        distance = np.empty((len(cells), n_nearest))
        bound, keys = aligned_room(self._low.shape[1:], np.float32), aligned_room((_KEPT,), np.int64)
        n_found = min(n_nearest + _SPARE, len(self._points))
        squares, found = np.empty(n_found), np.empty(n_found, dtype=np.int64)
        self._search(
            *(cells, self._points, self._groups, self._members, self._low, self._high),
            *(bound, bound.view(np.int32), keys, squares, found, index, distance),
        )
        return index, distance


def compiled_search() -> Callable[..., None]:
    """Return the search, compiled."""
    return compiled(
        _search,
        given("float32", 2),
        given("float32", 2),
        given("float32", 3),
        given("int32", 2),
        given("float32", 2),
        given("float32", 2),
        room("float32", 1),
        room("int32", 1),
        room("int64", 1),
        room("float64", 1),
        room("int64", 1),
        room("int64", 2),
        room("float64", 2),
        reorder_sums=True,
        made=True,
    )


def _boxes(ends: list[Floats]) -> Floats:
    """Put ends of boxes beside each other, (dimensions, boxes), with infinitely far ones behind them."""
    n_lacking = -len(ends) % _LANES
    return aligned(np.pad(np.stack(ends, axis=1), ((0, 0), (0, n_lacking)), constant_values=np.inf))


def _halved(points: Floats, members: npt.NDArray[np.intp]) -> list[npt.NDArray[np.intp]]:
    """Halve points where they vary most, until each part fits into a group."""
    if len(members) <= GROUP:
        return [members]
    widest = points[members].var(axis=0, dtype=np.float64).argmax()
    ordered = members[np.argsort(points[members, widest], kind="stable")]
    # Whole groups on one side, so that as few as possible are not full.
    half = -(-(len(members) // 2) // GROUP) * GROUP
    return [*_halved(points, ordered[:half]), *_halved(points, ordered[half:])]


def _search() -> Callable[..., None]:
    keep, n_kept = keeping_nearest(_KEPT), _KEPT
    infinite = np.int32(_INFINITE_BITS)
    no_key = np.int64(_INFINITE_BITS) << 32

    def search(
        cells: Floats,
        points: Floats,
        groups: Floats,
        members: npt.NDArray[np.int32],
        low: Floats,
        high: Floats,
        bound: Floats,
        bits_of_bound: npt.NDArray[np.int32],
        keys: npt.NDArray[np.int64],
        squares: Doubles,
        candidates: npt.NDArray[np.int64],
        index: npt.NDArray[np.int64],
        distance: Doubles,
    ) -> None:
        """Fill ``index`` and ``distance``; compiled by numba.

        ``groups`` is (groups, dimensions, members), ``low`` and ``high`` are their boxes, (dimensions, boxes). Room for
        one cell: ``bound``, (boxes,), the same memory as ``bits_of_bound``, ``keys``, ``squares`` and ``candidates``,
        (measured,).
        """
        n_dimensions, n_boxes = low.shape
        n_found, n_nearest = squares.shape[0], index.shape[1]
        for row in range(cells.shape[0]):
            for g in range(n_boxes):
                bound[g] = 0
            for d in range(n_dimensions):
                x = cells[row, d]
                for g in range(n_boxes):
                    below, above = low[d, g] - x, x - high[d, g]
                    outside = below if below > above else above
                    bound[g] += outside * outside if outside > 0 else np.float32(0)
            for k in range(n_kept):
                keys[k] = no_key
            farthest = infinite
            while True:
                # The nearest group first, so that what it holds rules most others out; then the next one. Of numbers
                # that are not negative, the bits are in the order of the numbers.
                least = infinite
                for other in range(n_boxes):
                    bits = bits_of_bound[other]
                    least = bits if bits < least else least
                if not least < farthest:
                    break
                g = 0
                for other in range(n_boxes):
                    g = other if bits_of_bound[other] == least else g
                bits_of_bound[g] = infinite
                farthest = np.int32(keep(cells, row, groups, members, g, keys))
            for found in range(n_found):
                # As `totalanvi.serving.engine.candidates` does: numba took 0.2 s to inline a function for both.
                candidate = keys[found] & 0xFFFFFFFF
                square = 0.0
                for d in range(n_dimensions):
                    exact = np.float64(points[candidate, d]) - np.float64(cells[row, d])
                    square += exact * exact
                place = found
                while place > 0 and squares[place - 1] > square:
                    squares[place] = squares[place - 1]
                    candidates[place] = candidates[place - 1]
                    place -= 1
                squares[place] = square
                candidates[place] = candidate
            for found in range(n_nearest):
                distance[row, found] = np.sqrt(squares[found])
                index[row, found] = candidates[found]

    return search
