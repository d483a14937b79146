"""DataFrames in an open HDF5 file or Zarr folder: their names, and rows of their columns without the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from totalanvi.serving.errors import QueryError

if TYPE_CHECKING:
    from totalanvi.formats.stores import Group

__all__ = ["StoredFrame", "column_names", "stored_names"]

_WINDOW_BYTES = 1 << 24


def stored_names(frame: Group) -> pd.Index:
    """Read the index of a stored DataFrame, such as the ``obs`` of a file, without its columns."""
    from anndata.io import read_elem

    names = np.asarray(read_elem(frame[frame.attrs["_index"]]))
    # Zarr's strings of variable length, kind "T", turn into no others; of a million texts no copy is made without need.
    if names.dtype.kind != "T" and not (names.dtype.kind == "O" and all(type(name) is str for name in names)):
        names = names.astype(str)
    index: pd.Index = pd.Index(names.astype(object, copy=False), dtype=object)
    return index


def column_names(frame: Group) -> tuple[str, ...]:
    """Return the names of the columns of a stored DataFrame; none where it is something else."""
    return tuple(str(name) for name in np.asarray(frame.attrs.get("column-order", ())).tolist())


class StoredFrame:
    """A stored DataFrame of numbers, sliced by rows like a matrix (cells, columns) of float64.

    Parameters
    ----------
    group
        As anndata stores a DataFrame: an array for each column, with a mask beside it where values may be missing.
    where
        Names it in messages, such as ``"obsm 'protein_expression'"``.

    Attributes
    ----------
    names : tuple of str
        Names of the columns (columns,).
    cells : pandas.Index
        Names of the rows (cells,).

    Raises
    ------
    QueryError
        When a column holds no numbers, or not one for each cell.
    """

    dtype = np.dtype(np.float64)

    def __init__(self, group: Group, where: str) -> None:
        self.names = keys = column_names(group)
        self.cells = stored_names(group)
        self.shape = (len(self.cells), len(keys))
        self._columns: list[tuple[Any, Any]] = []
        self._start, self._window = 0, np.empty((0, len(keys)))
        for key in keys:
            stored = group[key]
            nullable = hasattr(stored, "keys") and {"values", "mask"} <= set(stored)
            values, mask = (stored["values"], stored["mask"]) if nullable else (stored, None)
            if getattr(values, "dtype", np.dtype(object)).kind not in "buif" or values.shape != self.shape[:1]:
                raise QueryError(
                    f"Expected a number for each of the {self.shape[0]} cells in {where}; found column {key!r}, which "
                    f"holds something else. Keep protein counts only."
                )
            self._columns.append((values, mask))

    def __getitem__(self, rows: slice | npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        positions = np.arange(self.shape[0])[rows]
        if positions.size == 0:
            return np.empty((0, self.shape[1]))
        first, last = int(positions.min()), int(positions.max()) + 1
        if first < self._start or last > self._start + len(self._window):
            # As many rows as fit beyond those asked for: each column is an array of its own, slow to begin with.
            n_rows = max(last - first, _WINDOW_BYTES // (8 * max(self.shape[1], 1)))
            self._start, self._window = first, self._read(slice(first, min(first + n_rows, self.shape[0])))
        return self._window[positions - self._start]

    def _read(self, rows: slice) -> npt.NDArray[np.float64]:
        values = np.empty((rows.stop - rows.start, len(self._columns)), dtype=np.float64)
        for place, (stored, mask) in enumerate(self._columns):
            values[:, place] = stored[rows]
            if mask is not None:
                values[mask[rows], place] = np.nan
        return values
