"""Windows of cells whose RNA lies in a file: one is in memory and in use while a thread reads the next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from totalanvi.training.data import Cells, StoredCells

__all__ = ["Window", "WindowReader", "cells_per_window", "in_turn", "order_in_blocks"]

Positions = npt.NDArray[np.intp]

_MOST_CELLS = 16_384
_MOST_VALUES = 1 << 24
"""Counts in a window: 128 MB with their genes."""

_BLOCKS_PER_WINDOW = 64


class Window:
    """Some of a loader's cells that are in memory together; the same object stands for the same window.

    Parameters
    ----------
    cells
        Positions among all cells, (cells in the window,).
    """

    def __init__(self, cells: Positions) -> None:
        self.cells = cells


class WindowReader:
    """Reads windows; the next one while this one is in use, so that memory holds two.

    Parameters
    ----------
    cells
        All cells; their RNA in a file.

    Examples
    --------
    >>> reader = WindowReader(cells)  # doctest: +SKIP
    >>> reader.take(first, second)[np.array([3, 0])].to_batch().n_cells  # doctest: +SKIP
    2
    """

    def __init__(self, cells: StoredCells) -> None:
        self._cells = cells
        # One thread: what reads a file has a lock, and a second window ahead would be held for nothing.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="totalanvi-window")
        self._used: tuple[Window, Cells] | None = None
        self._ahead: tuple[Window, Future[Cells]] | None = None

    def take(self, window: Window, coming: Window | None) -> Cells:
        """Cells of a window in memory, in its order.

        Parameters
        ----------
        window
            Which one.
        coming
            The one after it, to be read meanwhile.

        Raises
        ------
        RegistrationError
            When the file cannot be read any more, or holds something else than it did.
        """
        if self._used is None or self._used[0] is not window:
            self._used = None  # before the next one takes its room
            read_ahead = self._ahead is not None and self._ahead[0] is window
            cells = self._ahead[1].result() if self._ahead is not None and read_ahead else self._read(window)
            self._used = window, cells
            self._ahead = None if coming is None else (coming, self._thread.submit(self._read, coming))
        return self._used[1]

    def _read(self, window: Window) -> Cells:
        return self._cells[window.cells]


def cells_per_window(cells: StoredCells, batch_size: int) -> int:
    """How many cells a window holds: a whole number of mini-batches, in bounded memory.

    Examples
    --------
    >>> cells_per_window(cells, 256)  # doctest: +SKIP
    16384
    """
    counts_per_cell = cells.rna.nnz / max(len(cells), 1)
    fitting = min(_MOST_CELLS, int(_MOST_VALUES / max(counts_per_cell, 1.0)))
    return max(1, fitting // batch_size) * batch_size


def in_turn(windows: Sequence[Window]) -> Iterable[tuple[Window, Window | None]]:
    """Windows, each with the one after it."""
    return zip(windows, [*windows[1:], None], strict=True)


def order_in_blocks(n_cells: int, window_size: int, rng: np.random.Generator) -> Positions:
    """Shuffle blocks of neighbouring cells, each as it is, (cells,).

    A window is made of 64 blocks from all over the file; shuffled in itself, it stands for all cells as well as a
    sample of that many neighbourhoods does.
    """
    size = max(1, window_size // _BLOCKS_PER_WINDOW)
    starts = np.arange(0, n_cells, size)
    return np.concatenate([np.arange(start, min(start + size, n_cells)) for start in rng.permutation(starts)])
