"""Distances that are measured in double precision and kept in order, for compiled loops to call."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["measuring"]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


def measuring() -> Callable[..., None]:
    """Return what measures one more candidate, for functions that numba compiles.

    ``measure(cells, row, points, candidate, n_before, squares, candidates)`` puts a point and its squared distance to a
    cell among ``n_before`` others, the nearest first, of equal ones the one that came first. It is compiled as a part
    of whoever calls it, with their rules for sums.

    Examples
    --------
    >>> measure = measuring()
    """
    from numba.extending import register_jitable

    made: Callable[..., None] = register_jitable(inline="always")(_measure)
    return made


def _measure(
    cells: Floats,
    row: int,
    points: Floats,
    candidate: int,
    n_before: int,
    squares: Doubles,
    candidates: npt.NDArray[np.int64],
) -> None:
    square = 0.0
    for d in range(points.shape[1]):
        exact = np.float64(points[candidate, d]) - np.float64(cells[row, d])
        square += exact * exact
    place = n_before
    while place > 0 and squares[place - 1] > square:
        squares[place] = squares[place - 1]
        candidates[place] = candidates[place - 1]
        place -= 1
    squares[place] = square
    candidates[place] = candidate
