"""Tables of counts that stay in a file: those of a backed AnnData, in HDF5 or Zarr."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
import scipy.sparse as sp
import zarr
from anndata.abc import CSCDataset, CSRDataset

from totalanvi.formats.counts_place import computable
from totalanvi.formats.stores import row_pointers
from totalanvi.training.errors import CountsError
from totalanvi.training.registration.matrices import readable
from totalanvi.training.stored_counts import StoredRows

__all__ = ["is_stored", "stored_rows"]

_SLAB_VALUES = 1 << 23
"""Values that are read at once: 64 MB with their columns."""


def is_stored(matrix: Any) -> bool:
    """Whether a matrix lies in a file, and only what is sliced of it in memory.

    Examples
    --------
    >>> is_stored(np.eye(2))
    False
    """
    return isinstance(matrix, CSRDataset | CSCDataset | h5py.Dataset | zarr.Array)


def stored_rows(matrix: Any, where: str) -> StoredRows:
    """Take a matrix that `is_stored` for one that gives rows.

    Parameters
    ----------
    matrix
        Sparse by rows, or dense, (cells, features).
    where
        Where it was found, for messages.

    Raises
    ------
    CountsError
        When it is stored by columns, is no table, or is damaged.
    """
    if isinstance(matrix, CSCDataset):
        raise CountsError(
            f"Expected counts that are stored by rows in {where}, so that cells can be read from their file, found "
            "them stored by columns (CSC); read the file whole (without backed=, or --no-backed), or write it by rows "
            "once: adata.X = adata.X.tocsr(); adata.write_h5ad(path)."
        )
    if isinstance(matrix, CSRDataset):
        return _SparseRows(matrix, where)
    if len(matrix.shape) != 2:
        raise CountsError(
            f"Expected a table of cells × features in {where}, found an array of shape {matrix.shape}; give one."
        )
    return _DenseRows(matrix, where)


class _SparseRows:
    """A sparse matrix in a file, as anndata stores it by rows."""

    def __init__(self, matrix: CSRDataset, where: str) -> None:
        self.shape: tuple[int, int] = (int(matrix.shape[0]), int(matrix.shape[1]))
        self._where = where
        group = matrix.group
        pointers = row_pointers(group, self.shape[0])
        if pointers is None:
            raise CountsError(
                f"Expected row pointers that rise from 0 to the {group['data'].shape[0]} stored values in {where}, "
                "found others: the matrix is damaged; write the reference again."
            )
        self._pointers = pointers
        self._data, self._indices = group["data"], group["indices"]

    def read(self, start: int, stop: int) -> sp.csr_matrix:
        """Rows ``start:stop``."""
        begin, end = self._pointers[start], self._pointers[stop]
        # Of 32 bits unless there are very many genes: scipy's products of rows and columns want them so.
        indices = self._indices[begin:end].astype(np.int32 if self.shape[1] < 2**31 else np.int64, copy=False)
        pointers = (self._pointers[start : stop + 1] - begin).astype(indices.dtype)
        values = computable(self._data[begin:end])
        rows = sp.csr_matrix((stop - start, self.shape[1]), dtype=values.dtype)
        rows.data, rows.indices, rows.indptr = values, indices, pointers  # unchecked, which is left to `readable`
        return readable(rows, self._where)

    def stop_of_slab(self, start: int) -> int:
        """Return where a slab that begins with this row ends."""
        fits = np.searchsorted(self._pointers, self._pointers[start] + _SLAB_VALUES, side="right") - 1
        return max(start + 1, int(fits))


class _DenseRows:
    """A dense array in a file."""

    def __init__(self, matrix: Any, where: str) -> None:
        self.shape: tuple[int, int] = (int(matrix.shape[0]), int(matrix.shape[1]))
        self._where = where
        self._matrix = matrix

    def read(self, start: int, stop: int) -> sp.csr_matrix:
        """Rows ``start:stop``."""
        return sp.csr_matrix(readable(self._matrix[start:stop], self._where))

    def stop_of_slab(self, start: int) -> int:
        """Return where a slab that begins with this row ends."""
        return start + max(1, _SLAB_VALUES // max(1, self.shape[1]))
