"""One AnnData, in memory or in an HDF5 file, seen as names and matrices whose rows can be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from totalanvi.serving.errors import QueryError

if TYPE_CHECKING:
    import anndata
    import h5py

__all__ = ["FileTable", "Matrix", "MemoryTable", "Table", "stored_names", "take_rows"]

Matrix: TypeAlias = Any
"""NumPy array, scipy CSR, dense HDF5 data set, or anndata's backed CSR: (cells, features), sliced by rows."""


class Table(Protocol):
    """What a query needs to know of one AnnData."""

    cell_names: pd.Index
    feature_names: tuple[str, ...]
    layers: tuple[str, ...]
    obsm_keys: tuple[str, ...]
    has_x: bool

    def matrix(self, layer: str | None) -> Matrix:
        """Return ``X`` (None) or a layer, (cells, features)."""

    def obsm(self, key: str) -> Any:
        """Return an entry of ``obsm``."""

    def feature_columns(self) -> dict[str, tuple[str, ...]]:
        """Return the columns of ``var`` that hold text (features,), by name."""


class MemoryTable:
    """An AnnData object, which may itself be backed by a file."""

    def __init__(self, adata: anndata.AnnData) -> None:
        self._adata = adata
        self.cell_names = pd.Index(adata.obs_names.astype(str))
        self.feature_names = tuple(str(name) for name in adata.var_names)
        self.layers = tuple(adata.layers.keys())
        self.obsm_keys = tuple(adata.obsm.keys())
        self.has_x = adata.X is not None

    def matrix(self, layer: str | None) -> Matrix:
        """Return ``X`` (None) or a layer, (cells, features)."""
        return _readable(self._adata.X if layer is None else self._adata.layers[layer], layer, self._adata.shape)

    def obsm(self, key: str) -> Any:
        """Return an entry of ``obsm``."""
        return self._adata.obsm[key]

    def feature_columns(self) -> dict[str, tuple[str, ...]]:
        """Return the columns of ``var`` that hold text (features,), by name."""
        return _text_columns(self._adata.var)


class FileTable:
    """An AnnData in an open HDF5 file: its root, or the group of one modality. Only names are read at once."""

    def __init__(self, group: h5py.Group) -> None:
        self._group = group
        self.cell_names = stored_names(group["obs"])
        self.feature_names = tuple(stored_names(group["var"]))
        self.layers = tuple(group["layers"]) if "layers" in group else ()
        self.obsm_keys = tuple(group["obsm"]) if "obsm" in group else ()
        self.has_x = "X" in group and _encoding(group["X"]) != "null"

    def matrix(self, layer: str | None) -> Matrix:
        """Return ``X`` (None) or a layer, (cells, features), not yet read unless it is stored by columns."""
        import h5py
        from anndata.io import sparse_dataset

        stored = self._group["X"] if layer is None else self._group["layers"][layer]
        matrix = stored if isinstance(stored, h5py.Dataset) else sparse_dataset(stored)
        return _readable(matrix, layer, (len(self.cell_names), len(self.feature_names)))

    def obsm(self, key: str) -> Any:
        """Read an entry of ``obsm``."""
        from anndata.io import read_elem

        return read_elem(self._group["obsm"][key])

    def feature_columns(self) -> dict[str, tuple[str, ...]]:
        """Read the columns of ``var`` that hold text (features,), by name."""
        from anndata.io import read_elem

        return _text_columns(read_elem(self._group["var"]))


def take_rows(matrix: Matrix, positions: npt.NDArray[np.intp]) -> Matrix:
    """Read rows of a matrix, in the order of `positions` (rows,); adjacent ones as one slab."""
    if len(positions) == 0:
        return sparse.csr_matrix((0, matrix.shape[1]), dtype=np.float32)
    first, last = int(positions.min()), int(positions.max())
    if np.array_equal(positions, np.arange(first, last + 1)):
        return matrix[first : last + 1]
    # HDF5 reads rows in ascending order only.
    order = np.argsort(positions, kind="stable")
    return matrix[positions[order]][np.argsort(order, kind="stable")]


def stored_names(frame: h5py.Group) -> pd.Index:
    """Read the index of a stored DataFrame, such as the ``obs`` of a file, without its columns."""
    from anndata.io import read_elem

    names = np.asarray(read_elem(frame[frame.attrs["_index"]]))
    index: pd.Index = pd.Index(names.astype(str).astype(object))
    return index


def _text_columns(frame: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """Return the columns that hold text, with nothing where a value is missing."""
    columns: dict[str, tuple[str, ...]] = {}
    for place, name in enumerate(frame.columns):
        # By position: a name may stand there twice, of which the first is taken.
        values = frame.iloc[:, place]
        kind = values.cat.categories.dtype if isinstance(values.dtype, pd.CategoricalDtype) else values.dtype
        if pd.api.types.is_string_dtype(kind):
            texts = values.astype(object).where(values.notna(), "")
            columns.setdefault(str(name), tuple(str(text) for text in texts))
    return columns


def _readable(matrix: Any, layer: str | None, shape: tuple[int, int]) -> Matrix:
    """Bring a matrix into a form whose rows can be sliced cheaply, once its shape is what the names say."""
    from anndata.abc import CSCDataset, CSRDataset

    where = "X" if layer is None else f"layer {layer!r}"
    if tuple(matrix.shape) != tuple(shape):
        raise QueryError(
            f"Expected {shape[0]} cells × {shape[1]} genes in {where}, as obs and var say; found a matrix of shape "
            f"{tuple(matrix.shape)}. Write the query again."
        )
    if isinstance(matrix, CSRDataset):
        _require_pointers(matrix.group, shape[0], where)
        return matrix
    if isinstance(matrix, CSCDataset):
        matrix = matrix.to_memory()
    if sparse.issparse(matrix):
        _require_structure(matrix, where)
        return matrix.tocsr()
    if isinstance(matrix, np.ndarray) or type(matrix).__module__.startswith("h5py"):
        return matrix
    raise QueryError(
        f"Expected a NumPy array or a scipy sparse matrix in {where}; found {type(matrix).__name__}. "
        f"Convert it before mapping (for a lazy array: .compute())."
    )


def _require_pointers(group: h5py.Group, n_cells: int, where: str) -> None:
    """Verify where the rows of a stored CSR begin and end: read row by row, wrong ones would give wrong cells."""
    pointers = group["indptr"][:]
    n_entries = group["data"].shape[0]
    whole = pointers.shape == (n_cells + 1,) and group["indices"].shape == (n_entries,)
    if not whole or pointers[0] != 0 or pointers[-1] != n_entries or np.any(pointers[1:] < pointers[:-1]):
        raise QueryError(
            f"Expected row pointers that rise from 0 to the {n_entries} stored values in {where}; found others: the "
            f"matrix is damaged. Write the query again."
        )


def _require_structure(matrix: Any, where: str) -> None:
    """Verify the indices of a sparse matrix in memory, which compiled routines follow unchecked."""
    if matrix.format not in ("csr", "csc"):
        return
    try:
        matrix.check_format(full_check=True)
    except ValueError as error:
        raise QueryError(
            f"Expected a valid sparse matrix in {where}; found a damaged one ({error}). Write the query again."
        ) from error


def _encoding(stored: Any) -> str:
    return str(stored.attrs.get("encoding-type", ""))
