"""Rows of a stored CSR matrix, read as slabs of neighbours straight into memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from totalanvi.formats.counts_place import computable
from totalanvi.formats.hdf5_chunks import InflatedVector, is_deflated

__all__ = ["StoredRows"]


class StoredRows:
    """A CSR matrix in an open HDF5 file or Zarr folder, sliced by rows like one in memory (cells, features).

    Parameters
    ----------
    matrix
        As anndata opens it.
    pointers
        Where each row begins, and where the last one ends (cells + 1,), known to rise: see
        `totalanvi.formats.stores.row_pointers`.

    Examples
    --------
    >>> matrix = anndata.io.sparse_dataset(file["X"])  # doctest: +SKIP
    >>> StoredRows(matrix, row_pointers(matrix.group, n_cells))[:100].shape  # doctest: +SKIP
    (100, 4000)
    """

    def __init__(self, matrix: Any, pointers: npt.NDArray[np.int64]) -> None:
        self._pointers = pointers
        parts = (matrix.group["data"], matrix.group["indices"])
        self._data, self._indices = (InflatedVector(part) if is_deflated(part) else part for part in parts)
        self.shape: tuple[int, int] = tuple(matrix.shape)
        self.dtype: np.dtype[Any] = matrix.dtype

    def __getitem__(self, rows: slice | npt.NDArray[np.intp]) -> sparse.csr_matrix:
        """Read neighbouring rows, or rows by their positions, which rise; their columns are as they are stored."""
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(self.shape[0])
            runs, lengths = [(start, stop)], np.diff(self._pointers[start : stop + 1])
        else:
            ends = np.flatnonzero(np.diff(rows, append=-1) != 1)
            runs = list(zip(rows[np.concatenate([[0], ends[:-1] + 1])], rows[ends] + 1, strict=True))
            lengths = self._pointers[rows + 1] - self._pointers[rows]
        pieces = [slice(int(self._pointers[start]), int(self._pointers[stop])) for start, stop in runs]
        data, indices = (_joined([part[piece] for piece in pieces]) for part in (self._data, self._indices))
        pointers = np.concatenate([[0], np.cumsum(lengths)])
        # Numbers in another machine's byte order make no matrix.
        return sparse.csr_matrix((computable(data), indices, pointers), shape=(len(lengths), self.shape[1]))


def _joined(parts: list[Any]) -> Any:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
