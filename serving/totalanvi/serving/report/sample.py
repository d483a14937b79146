"""A few of many cells to show on a map: the same ones however the cells come in blocks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["MAP_CELLS", "CellSample"]

MAP_CELLS = 20_000
"""Cells that a map shows at most: enough to see where they are, few enough for any browser."""

Floats = npt.NDArray[np.float32]


class CellSample:
    """Cells drawn evenly out of all that were seen, in memory that does not grow with them.

    Each cell has a number that its place in the query alone decides; those with the smallest are kept.

    Parameters
    ----------
    size
        Most cells to keep.

    Examples
    --------
    >>> sample = CellSample(size=2)
    >>> for start in (0, 3):
    ...     sample.add(np.arange(start, start + 3), np.zeros((3, 2), np.float32), np.arange(3, dtype=np.int32))
    >>> len(sample.coordinates)
    2
    """

    def __init__(self, size: int = MAP_CELLS) -> None:
        self.size = size
        self._number = np.empty(0, np.uint64)
        self._coordinates = np.empty((0, 2), np.float32)
        self._label = np.empty(0, np.int32)

    @property
    def coordinates(self) -> Floats:
        """Places of the cells that were kept, (kept, 2)."""
        return self._coordinates

    @property
    def label(self) -> npt.NDArray[np.int32]:
        """Their labels, as they were given, (kept,)."""
        return self._label

    def add(self, places: npt.NDArray[np.integer], coordinates: Floats, label: npt.NDArray[np.int32]) -> None:
        """Take cells into account.

        Parameters
        ----------
        places
            Of the cells in the query, (cells,), unlike those of any other cell.
        coordinates
            On the map, (cells, 2).
        label
            (cells,).
        """
        number = np.concatenate([self._number, _scattered(places)])
        kept = np.arange(len(number))
        if len(number) > self.size:
            # In order, so that what is kept looks the same whatever the blocks were.
            kept = np.sort(np.argpartition(number, self.size - 1)[: self.size])
        self._number = number[kept]
        self._coordinates = np.concatenate([self._coordinates, coordinates])[kept]
        self._label = np.concatenate([self._label, label])[kept]


def _scattered(places: npt.NDArray[np.integer]) -> npt.NDArray[np.uint64]:
    """Turn numbers into others that look drawn at random, no two of them the same (the finaliser of SplitMix64)."""
    mixed = (places.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    scattered: npt.NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(31))
    return scattered
