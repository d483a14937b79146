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

__all__ = ["NearestSearch", "compiled_search"]

_GROUP = 64
"""Points in a group: their distances take a few registers. 32 and 64 were equally fast, 16 and one group of all three
times slower."""

_INFINITE_BITS = 0x7F800000
"""Of a number in single precision that no distance reaches."""

_DIMENSIONS = 4
"""That are added up at a time, so that sums are loaded and stored a quarter as often."""

_LANES = 16
"""Boxes are as many as fill the widest registers."""

_SPARE = 4
"""Points that are found beyond those asked for, since rounding may have swapped some."""

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
        groups, padded = _halved(self._points, np.arange(len(points))), _padded(self._points)
        # Infinitely far, so that nothing that fills up a group is ever found.
        self._groups = aligned_room((len(groups), padded.shape[1], _GROUP), np.float32)
        self._groups[...] = np.inf
        self._members = np.zeros((len(groups), _GROUP), dtype=np.int64)
        for number, group in enumerate(groups):
            self._groups[number, :, : len(group)] = padded[group].T
            self._members[number, : len(group)] = group
        self._low = _boxes([padded[group].min(axis=0) for group in groups])
        self._high = _boxes([padded[group].max(axis=0) for group in groups])
        self._search = compiled_search()

    def find(self, cells: Floats, n_nearest: int) -> tuple[npt.NDArray[np.int64], Doubles]:
        """Return index and Euclidean distance of the nearest points, the nearest first, (cells, nearest).

        Parameters
        ----------
        cells
            Where they lie, (cells, dimensions), finite.
        n_nearest
            How many points, at most as many as there are.
        """
        index = np.empty((len(cells), n_nearest), dtype=np.int64)
        distance = np.empty((len(cells), n_nearest))
        self._search(_padded(cells), self._points, self._groups, self._members, self._low, self._high, index, distance)
        return index, distance


def compiled_search() -> Callable[..., None]:
    """Return the search, compiled."""
    return compiled(
        _search,
        given("float32", 2),
        given("float32", 2),
        given("float32", 3),
        given("int64", 2),
        given("float32", 2),
        given("float32", 2),
        room("int64", 2),
        room("float64", 2),
        reorder_sums=True,
    )


def _padded(points: npt.NDArray[np.floating]) -> Floats:
    """Add dimensions in which all points lie at zero, to a multiple of what the search takes at a time."""
    n_lacking = -points.shape[1] % _DIMENSIONS
    padded = np.pad(points, ((0, 0), (0, n_lacking))) if n_lacking else points
    return np.require(padded, np.float32, ["C", "A"])


def _boxes(ends: list[Floats]) -> Floats:
    """Put ends of boxes beside each other, (dimensions, boxes), with infinitely far ones behind them."""
    n_lacking = -len(ends) % _LANES
    return aligned(np.pad(np.stack(ends, axis=1), ((0, 0), (0, n_lacking)), constant_values=np.inf))


def _halved(points: Floats, members: npt.NDArray[np.intp]) -> list[npt.NDArray[np.intp]]:
    """Halve points where they vary most, until each part fits into a group."""
    if len(members) <= _GROUP:
        return [members]
    widest = points[members].var(axis=0, dtype=np.float64).argmax()
    ordered = members[np.argsort(points[members, widest], kind="stable")]
    # Whole groups on one side, so that as few as possible are not full.
    half = -(-(len(members) // 2) // _GROUP) * _GROUP
    return [*_halved(points, ordered[:half]), *_halved(points, ordered[half:])]


def _search(
    cells: Floats,
    points: Floats,
    groups: Floats,
    members: npt.NDArray[np.int64],
    low: Floats,
    high: Floats,
    index: npt.NDArray[np.int64],
    distance: Doubles,
) -> None:
    """Fill ``index`` and ``distance``; compiled by numba.

    ``groups`` is (groups, dimensions, members), ``low`` and ``high`` are their boxes, (dimensions, boxes).
    """
    n_groups, n_dimensions, n_members = groups.shape
    n_boxes, n_nearest = low.shape[1], index.shape[1]
    n_found = min(n_nearest + _SPARE, points.shape[0])
    bound = np.empty(n_boxes, np.float32)
    squares = np.empty(n_members, np.float32)
    # Of numbers that are not negative, the bits are in the order of the numbers. With its point behind it, a square is
    # one key, that is kept in order at once.
    bits = squares.view(np.int32)
    keys = np.empty(n_found, np.int64)
    of_lane = np.empty(1, np.float32)
    lane = of_lane.view(np.int32)
    no_key = np.int64(_INFINITE_BITS) << 32
    measured, found_there = np.empty(n_found, np.float64), np.empty(n_found, np.int64)
    for row in range(cells.shape[0]):
        bound[:] = 0
        for d in range(n_dimensions):
            x = cells[row, d]
            for g in range(n_boxes):
                below, above = low[d, g] - x, x - high[d, g]
                outside = below if below > above else above
                bound[g] += outside * outside if outside > 0 else np.float32(0)
        keys[:] = no_key
        farthest = np.float32(np.inf)
        while True:
            # The nearest group first, so that what it holds rules most others out; then the next one.
            g = 0
            for other in range(1, n_groups):
                if bound[other] < bound[g]:
                    g = other
            if not bound[g] < farthest:
                break
            bound[g] = np.inf
            for i in range(n_members):
                squares[i] = 0
            for d in range(0, n_dimensions, _DIMENSIONS):
                x0, x1, x2, x3 = cells[row, d], cells[row, d + 1], cells[row, d + 2], cells[row, d + 3]
                for i in range(n_members):
                    off0, off1 = groups[g, d, i] - x0, groups[g, d + 1, i] - x1
                    off2, off3 = groups[g, d + 2, i] - x2, groups[g, d + 3, i] - x3
                    squares[i] += (off0 * off0 + off1 * off1) + (off2 * off2 + off3 * off3)
            nearer = 0
            for i in range(n_members):
                nearer += 1 if squares[i] < farthest else 0
            # Most groups hold none: then they need not be looked through one by one.
            last = np.int32(keys[n_found - 1] >> 32)
            for i in range(n_members if nearer else 0):
                if bits[i] < last:
                    key = np.int64(bits[i]) << 32 | members[g, i]
                    for place in range(n_found - 1, 0, -1):
                        before, there = keys[place - 1], keys[place]
                        keys[place] = before if before > key else key if key < there else there
                    keys[0] = key if key < keys[0] else keys[0]
                    last = np.int32(keys[n_found - 1] >> 32)
            lane[0] = last
            farthest = of_lane[0]
        for found in range(n_found):
            candidate = keys[found] & 0xFFFFFFFF
            square = 0.0
            for d in range(points.shape[1]):
                exact = np.float64(points[candidate, d]) - np.float64(cells[row, d])
                square += exact * exact
            place = found
            while place > 0 and measured[place - 1] > square:
                measured[place] = measured[place - 1]
                found_there[place] = found_there[place - 1]
                place -= 1
            measured[place] = square
            found_there[place] = candidate
        for found in range(n_nearest):
            distance[row, found] = np.sqrt(measured[found])
            index[row, found] = found_there[found]
