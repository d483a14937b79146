"""10x ``.h5`` files of Cell Ranger 2 and later: features × barcodes by columns, which is cells × features by rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from totalanvi.formats.errors import FormatError
from totalanvi.formats.stores import row_pointers
from totalanvi.formats.tenx import GENE, TenxFeatures, require_barcodes

if TYPE_CHECKING:
    import h5py

__all__ = ["TenxFile"]

_PARTS = ("barcodes", "data", "indices", "indptr", "shape")


class TenxFile:
    """An open 10x ``.h5`` file, sliced by rows like a matrix (cells, features).

    Parameters
    ----------
    file
        Opened for reading, and known to hold all of its data itself.

    Attributes
    ----------
    cells : pandas.Index
        Barcodes (cells,).
    features : TenxFeatures
        (features,).
    shape : tuple of int
        Cells and features.
    dtype : numpy.dtype
        Of the values.

    Raises
    ------
    FormatError
        When a part is missing or the parts do not fit each other.

    Examples
    --------
    >>> with h5py.File("filtered_feature_bc_matrix.h5") as file:  # doctest: +SKIP
    ...     first = TenxFile(file)[:100]
    """

    def __init__(self, file: h5py.File) -> None:
        self._group = _matrix_group(file)
        missing = [part for part in _PARTS if part not in self._group]
        if missing:
            raise FormatError(
                f"Expected {', '.join(_PARTS)} in the 10x matrix {self._group.name!r}; found no {missing[0]!r}. Copy "
                f"the file again."
            )
        n_features, n_cells = (int(n) for n in self._group["shape"][:])
        self.cells = require_barcodes(_strings(self._group["barcodes"]), n_cells)
        self.features = _features(self._group)
        if len(self.features) != n_features:
            raise FormatError(
                f"Expected {n_features} features, as the shape of the 10x matrix says; found {len(self.features)}. "
                f"Copy the file again."
            )
        self.shape = (n_cells, n_features)
        self.dtype = self._group["data"].dtype
        self._pointers = _require_pointers(self._group, n_cells)

    def __getitem__(self, rows: slice) -> sparse.csr_matrix:
        """Read neighbouring cells, (cells, features).

        Raises
        ------
        FormatError
            When a value stands at a feature that there is not.
        """
        start, stop, _ = rows.indices(self.shape[0])
        first, last = int(self._pointers[start]), int(self._pointers[stop])
        indices = self._group["indices"][first:last]
        # Before any compiled routine follows them: a file from a stranger may hold anything.
        if indices.size and (indices.min() < 0 or indices.max() >= len(self.features)):
            raise FormatError(
                f"Expected positions from 0 to {len(self.features) - 1} in the 10x matrix; found {indices.min()} to "
                f"{indices.max()}: it is damaged. Copy the file again."
            )
        shape = (stop - start, len(self.features))
        parts = (self._group["data"][first:last], indices, self._pointers[start : stop + 1] - first)
        return sparse.csr_matrix(parts, shape=shape)


def _require_pointers(group: h5py.Group, n_cells: int) -> npt.NDArray[np.int64]:
    pointers = row_pointers(group, n_cells)
    if pointers is None:
        raise FormatError(
            f"Expected pointers that rise from 0 to the {group['data'].shape[0]} stored values, one more than cells "
            f"({n_cells}), in the 10x matrix; found others: it is damaged. Copy the file again."
        )
    return pointers


def _matrix_group(file: h5py.File) -> h5py.Group:
    """Return ``/matrix``, or of Cell Ranger 2 the only genome's group."""
    if "matrix" in file:
        return file["matrix"]
    genomes = [name for name, member in file.items() if hasattr(member, "keys") and "barcodes" in member]
    if len(genomes) != 1:
        raise FormatError(
            f"Expected a 10x file of one genome; found {', '.join(map(repr, genomes))}. Take the cells of one of them, "
            f"and write them with adata.write_h5ad."
        )
    return file[genomes[0]]


def _features(group: h5py.Group) -> TenxFeatures:
    if "features" in group:
        stored = group["features"]
        parts = {name: _strings(stored[name]) for name in ("id", "name", "feature_type", "genome") if name in stored}
    else:
        parts = {"id": _strings(group["genes"]), "name": _strings(group["gene_names"])}
        parts["genome"] = np.full(len(parts["id"]), group.name.strip("/"), dtype=object)
        parts["feature_type"] = np.full(len(parts["id"]), GENE, dtype=object)
    missing = [name for name in ("id", "name", "feature_type") if name not in parts]
    lengths = {len(values) for values in parts.values()}
    if missing or len(lengths) != 1:
        found = f"no {missing[0]!r}" if missing else f"{' and '.join(map(str, sorted(lengths)))} of them"
        raise FormatError(
            f"Expected an id, a name and a type for each feature of the 10x matrix; found {found}. Copy the file again."
        )
    return TenxFeatures(parts["id"], parts["name"], parts["feature_type"], parts.get("genome"))


def _strings(stored: Any) -> npt.NDArray[np.object_]:
    return np.asarray(stored.asstr()[:], dtype=object)
