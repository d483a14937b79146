"""DataFrames in an open HDF5 file or Zarr folder: their names, and rows of their columns without the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from totalanvi.serving.errors import QueryError

if TYPE_CHECKING:
    from totalanvi.formats.stores import Group

__all__ = ["StoredFrame", "stored_names"]


def stored_names(frame: Group) -> pd.Index:
    """Read the index of a stored DataFrame, such as the ``obs`` of a file, without its columns."""
    from anndata.io import read_elem

    names = np.asarray(read_elem(frame[frame.attrs["_index"]]))
    # Zarr's strings of variable length, kind "T", turn into no others.
    index: pd.Index = pd.Index((names if names.dtype.kind == "T" else names.astype(str)).astype(object))
    return index


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
        keys = [str(key) for key in np.asarray(group.attrs["column-order"]).tolist()]
        self.names = tuple(keys)
        self.cells = stored_names(group)
        self.shape = (len(self.cells), len(keys))
        self._columns: list[tuple[Any, Any]] = []
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
        n_rows = len(np.arange(self.shape[0])[rows])
        values = np.empty((n_rows, len(self._columns)), dtype=np.float64)
        for place, (stored, mask) in enumerate(self._columns):
            values[:, place] = stored[rows]
            if mask is not None:
                values[mask[rows], place] = np.nan
        return values
