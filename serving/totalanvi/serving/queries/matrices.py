"""Matrices of a query: in memory or stored, whole, and cheap to read by rows."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

from totalanvi.formats.counts_place import computable
from totalanvi.formats.stored_rows import StoredRows
from totalanvi.formats.stores import row_pointers
from totalanvi.serving.errors import QueryError

__all__ = ["Columns", "Matrix", "SharedRows", "readable", "require_structure", "take_rows"]

Matrix: TypeAlias = Any
"""(cells, features), sliced by rows: NumPy array, scipy CSR, dense array of HDF5 or Zarr, `StoredRows`,
`totalanvi.formats.tenx_h5.TenxFile`, `totalanvi.serving.queries.stored_frames.StoredFrame` or `Columns`."""


class SharedRows:
    """A matrix whose rows are asked for twice in a row, for genes and for proteins, and read once."""

    def __init__(self, matrix: Matrix, where: object) -> None:
        self._matrix = matrix
        self._where = where
        self._latest: tuple[slice, Any] | None = None
        self.n_rows: int = matrix.shape[0]
        self.dtype = matrix.dtype

    def __getitem__(self, rows: slice | npt.NDArray[np.intp]) -> Any:
        if not isinstance(rows, slice):
            return self._read(rows)
        if self._latest is None or self._latest[0] != rows:
            self._latest = rows, self._read(rows)
        return self._latest[1]

    def _read(self, rows: slice | npt.NDArray[np.intp]) -> Any:
        found = self._matrix[rows]
        if sparse.issparse(found):
            # Columns are about to be taken.
            require_structure(found, self._where)
        return found


class Columns:
    """Some columns of a matrix, (cells, columns)."""

    def __init__(self, rows: SharedRows, columns: npt.NDArray[np.intp]) -> None:
        self._rows = rows
        self._columns = columns
        self.shape = (rows.n_rows, len(columns))
        self.dtype = rows.dtype

    def __getitem__(self, rows: slice | npt.NDArray[np.intp]) -> Any:
        return self._rows[rows][:, self._columns]


def take_rows(matrix: Matrix, positions: npt.NDArray[np.intp]) -> Matrix:
    """Read rows of a matrix, in the order of `positions` (rows,); adjacent ones as one slab.

    Examples
    --------
    >>> take_rows(np.arange(8).reshape(4, 2), np.array([3, 0]))
    array([[6, 7],
           [0, 1]])
    """
    if len(positions) == 0:
        return sparse.csr_matrix((0, matrix.shape[1]), dtype=np.float32)
    first, last = int(positions.min()), int(positions.max())
    if np.array_equal(positions, np.arange(first, last + 1)):
        return matrix[first : last + 1]
    # HDF5 reads rows in ascending order only.
    order = np.argsort(positions, kind="stable")
    return matrix[positions[order]][np.argsort(order, kind="stable")]


def readable(matrix: Any, place: object, shape: tuple[int, int], stored: tuple[str, ...]) -> Matrix:
    """Bring a matrix into a form whose rows can be sliced cheaply, once its shape is what the names say.

    Parameters
    ----------
    matrix
        Whatever stands at the place.
    place
        Where that is, for messages.
    shape
        Cells and features that there are names of.
    stored
        Packages whose dense arrays are taken, besides those in memory.

    Raises
    ------
    QueryError
        When its shape is another, it is damaged, or its kind is not known.
    """
    from anndata.abc import CSCDataset, CSRDataset

    if tuple(matrix.shape) != tuple(shape):
        raise QueryError(
            f"Expected {shape[0]} cells × {shape[1]} columns in {place}, as obs and var say; found a matrix of shape "
            f"{tuple(matrix.shape)}. Write the query again."
        )
    if isinstance(matrix, CSRDataset):
        pointers = row_pointers(matrix.group, shape[0])
        if pointers is None:
            raise QueryError(
                f"Expected row pointers that rise from 0 to the {matrix.group['data'].shape[0]} stored values in "
                f"{place}; found others: the matrix is damaged. Write the query again."
            )
        return StoredRows(matrix, pointers)
    if isinstance(matrix, CSCDataset):
        # Part by part: of numbers in another machine's byte order, anndata makes no matrix.
        group = matrix.group
        parts = (computable(group["data"][:]), group["indices"][:], group["indptr"][:])
        matrix = sparse.csc_matrix(parts, shape=tuple(matrix.shape))
    if sparse.issparse(matrix):
        require_structure(matrix, place)
        return matrix.tocsr()
    if isinstance(matrix, np.ndarray) or type(matrix).__module__.startswith(stored):
        return matrix
    raise QueryError(
        f"Expected a NumPy array or a scipy sparse matrix in {place}; found {type(matrix).__name__}. "
        f"Convert it before mapping (for a lazy array: .compute())."
    )


def require_structure(matrix: Any, where: object) -> None:
    """Verify the indices of a sparse matrix in memory, which compiled routines follow unchecked.

    Parameters
    ----------
    matrix
        Sparse, of any format.
    where
        Names it in messages.

    Raises
    ------
    QueryError
        When they lead out of the matrix.
    """
    if matrix.format not in ("csr", "csc"):
        return
    try:
        matrix.check_format(full_check=True)
    except ValueError as error:
        raise QueryError(
            f"Expected a valid sparse matrix in {where}; found a damaged one ({error}). Write the query again."
        ) from error
