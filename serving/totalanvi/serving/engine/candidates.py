"""The nearest of some candidates, which a device found: measured again in double precision, for each cell by itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from totalanvi.serving.engine.compiled import compiled, given, room

__all__ = ["compiled_order", "nearest_of"]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


def nearest_of(
    cells: Floats, points: Floats, candidates: Floats, n_nearest: int
) -> tuple[npt.NDArray[np.int64], Doubles]:
    """Return index and Euclidean distance of the nearest candidates, the nearest first, (cells, nearest).

    Parameters
    ----------
    cells
        Where they lie, (cells, dimensions).
    points
        Where candidates may lie, (points, dimensions).
    candidates
        Which points may be nearest, as whole numbers, (cells, candidates): each once.
    n_nearest
        How many, at most as many as there are.

    Examples
    --------
    >>> index, distance = nearest_of(np.float32([[2]]), np.float32([[0], [3], [9]]), np.float32([[2, 0, 1]]), 2)
    >>> index.tolist(), distance.tolist()
    ([[1, 0]], [[1.0, 2.0]])
    """
    index = np.empty((len(cells), n_nearest), dtype=np.int64)
    distance = np.empty((len(cells), n_nearest))
    n_candidates = candidates.shape[1]
    compiled_order()(
        *(np.ascontiguousarray(cells), points, np.ascontiguousarray(candidates)),
        *(np.empty(n_candidates), np.empty(n_candidates, dtype=np.int64), index, distance),
    )
    return index, distance


def compiled_order() -> Callable[..., None]:
    """Return the measuring and ordering of candidates, compiled."""
    return compiled(
        _order,
        given("float32", 2),
        given("float32", 2),
        given("float32", 2),
        room("float64", 1),
        room("int64", 1),
        room("int64", 2),
        room("float64", 2),
        reorder_sums=True,
    )


def _order(
    cells: Floats,
    points: Floats,
    candidates: Floats,
    squares: Doubles,
    in_order: npt.NDArray[np.int64],
    index: npt.NDArray[np.int64],
    distance: Doubles,
) -> None:
    """Fill ``index`` and ``distance``; compiled by numba.

    ``squares`` and ``in_order`` are room for the candidates of a cell. Of equally far ones, the first comes first.
    """
    n_candidates, n_nearest = candidates.shape[1], index.shape[1]
    for row in range(cells.shape[0]):
        for found in range(n_candidates):
            # Whatever a device says, no other memory is read.
            candidate = min(max(np.int64(candidates[row, found]), 0), points.shape[0] - 1)
            square = 0.0
            for d in range(points.shape[1]):
                exact = np.float64(points[candidate, d]) - np.float64(cells[row, d])
                square += exact * exact
            place = found
            while place > 0 and squares[place - 1] > square:
                squares[place] = squares[place - 1]
                in_order[place] = in_order[place - 1]
                place -= 1
            squares[place] = square
            in_order[place] = candidate
        for found in range(n_nearest):
            distance[row, found] = np.sqrt(squares[found])
            index[row, found] = in_order[found]
