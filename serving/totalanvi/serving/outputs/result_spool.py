"""Results of all cells on disk, to be read back column by column."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from totalanvi.serving.mapped import MappedCells

__all__ = ["ResultSpool"]


class ResultSpool:
    """A file that takes results block by block as they come, and gives them back a column of all cells at a time.

    Parameters
    ----------
    path
        Of the file, which is made.

    Examples
    --------
    >>> with ResultSpool(Path("results")) as spool:  # doctest: +SKIP
    ...     spool.append(mapped)
    ...     confidence, first = spool.column("confidence"), spool.column("probabilities", 0)
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b")
        self._blocks: dict[str, list[tuple[int, int]]] = {}
        self._kinds: dict[str, tuple[np.dtype[Any], int]] = {}
        self.n_bytes = 0
        """How many bytes the results have."""

    def __enter__(self) -> ResultSpool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def __contains__(self, name: str) -> bool:
        return name in self._blocks

    def append(self, mapped: MappedCells) -> None:
        """Take the next cells (cells,)."""
        for name, array in mapped.arrays().items():
            # In a block, each column lies in one piece.
            columns = np.ascontiguousarray(array.T)
            self._kinds[name] = array.dtype, 1 if array.ndim == 1 else array.shape[1]
            self._blocks.setdefault(name, []).append((self.n_bytes, len(mapped)))
            self._file.write(columns.data)
            self.n_bytes += columns.nbytes

    def n_columns(self, name: str) -> int:
        """Return the number of columns of an array of `MappedCells`; 1 of one that has a value for each cell."""
        return self._kinds[name][1]

    def column(self, name: str, place: int = 0) -> npt.NDArray[Any]:
        """Read a column of an array of `MappedCells`, (cells,), in the order in which they came."""
        dtype, _ = self._kinds[name]
        blocks = self._blocks[name]
        column = np.empty(sum(n_cells for _, n_cells in blocks), dtype=dtype)
        filled = 0
        for start, n_cells in blocks:
            self._file.seek(start + place * n_cells * dtype.itemsize)
            n_read = self._file.readinto(column[filled : filled + n_cells].data)
            if n_read != n_cells * dtype.itemsize:
                raise OSError(f"{self._file.name} was cut short")
            filled += n_cells
        return column
