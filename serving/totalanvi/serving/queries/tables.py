"""One AnnData, in memory or stored, seen as names and matrices whose rows can be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from totalanvi.formats.counts_place import Place
from totalanvi.formats.layer_names import layer_names
from totalanvi.formats.tenx import PROTEIN_KEY
from totalanvi.serving.errors import QueryError
from totalanvi.serving.queries.matrices import Columns, Matrix, SharedRows, readable
from totalanvi.serving.queries.stored_frames import StoredFrame, column_names, stored_names

if TYPE_CHECKING:
    import anndata

    from totalanvi.formats.stores import Group
    from totalanvi.formats.tenx_h5 import TenxFile

__all__ = ["FileTable", "MemoryTable", "NamedMatrix", "Table", "TenxTable"]

X = Place("X")
RAW = Place("raw")


@dataclass(frozen=True, eq=False)
class NamedMatrix:
    """An entry of ``obsm`` that names its columns (columns,) and its rows (cells,), and its values (cells, columns)."""

    names: tuple[str, ...]
    cells: pd.Index
    matrix: Matrix


class Table(Protocol):
    """What a query needs to know of one AnnData."""

    cell_names: pd.Index
    places: tuple[Place, ...]
    """Where it has matrices of counts or of anything else; ``X`` first."""
    obsm_keys: tuple[str, ...]

    def feature_names(self, place: Place) -> tuple[str, ...]:
        """Return the names of the columns of a place (features,)."""

    def matrix(self, place: Place) -> Matrix:
        """Return what stands at a place, (cells, features)."""

    def obsm(self, key: str) -> NamedMatrix | str:
        """Return an entry of ``obsm``; of one without names, what it is."""

    def obsm_matrix(self, key: str) -> Matrix | None:
        """Return the values of an entry of ``obsm``, (cells, columns), named or not; None where it is no matrix."""

    def obsm_columns(self, key: str) -> tuple[str, ...]:
        """Return the names of the columns of an entry of ``obsm``; none where it has no names."""

    def feature_columns(self, place: Place) -> dict[str, tuple[str, ...]]:
        """Return the columns that describe the features of a place in text (features,), by name."""


class MemoryTable:
    """An AnnData object, which may itself be backed by a file."""

    def __init__(self, adata: anndata.AnnData) -> None:
        self._adata = adata
        self.cell_names = pd.Index(adata.obs_names.astype(str))
        layers = (Place("layer", name) for name in layer_names(adata))
        self.places = (
            *((X,) if adata.X is not None else ()),
            *layers,
            *((RAW,) if adata.raw is not None else ()),
        )
        self.obsm_keys = tuple(adata.obsm.keys())

    def feature_names(self, place: Place) -> tuple[str, ...]:
        """Return the names of the columns of a place (features,)."""
        return tuple(str(name) for name in self._holder(place).var_names)

    def matrix(self, place: Place) -> Matrix:
        """Return what stands at a place, (cells, features)."""
        found = self._adata.layers[place.layer] if place.kind == "layer" else self._holder(place).X
        # A backed AnnData keeps HDF5 arrays; one of Zarr may lead anywhere, and nobody has looked at where.
        return readable(found, place, (len(self.cell_names), len(self.feature_names(place))), stored=("h5py",))

    def obsm(self, key: str) -> NamedMatrix | str:
        """Return an entry of ``obsm``; of one without names, what it is."""
        values = self._adata.obsm[key]
        if not isinstance(values, pd.DataFrame):
            return type(values).__name__
        try:
            if any(dtype.kind == "c" for dtype in values.dtypes):
                # Conversion would drop the imaginary part without an error.
                raise TypeError("complex numbers")
            numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        except (TypeError, ValueError) as error:
            raise QueryError(
                f"Expected numbers in obsm {key!r}; found columns that are none ({error}). Keep protein counts only."
            ) from error
        return NamedMatrix(self.obsm_columns(key), values.index.astype(str), numbers)

    def obsm_matrix(self, key: str) -> Matrix | None:
        """Return the values of an entry of ``obsm``, (cells, columns), named or not; None where it is no matrix."""
        found = self.obsm(key)
        return _unnamed(self._adata.obsm[key], key, self.cell_names, ()) if isinstance(found, str) else found.matrix

    def obsm_columns(self, key: str) -> tuple[str, ...]:
        """Return the names of the columns of an entry of ``obsm``; none where it has no names."""
        return tuple(str(name) for name in getattr(self._adata.obsm[key], "columns", ()))

    def feature_columns(self, place: Place) -> dict[str, tuple[str, ...]]:
        """Return the columns that describe the features of a place in text (features,), by name."""
        return _text_columns(self._holder(place).var)

    def _holder(self, place: Place) -> Any:
        """Return what a place shares its features with: the AnnData, or its ``raw``."""
        return self._adata.raw if place == RAW else self._adata


class FileTable:
    """An AnnData in an open HDF5 file or Zarr folder, its root or the group of a modality: names are read at once."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self.cell_names = stored_names(group["obs"])
        self._features = {X: tuple(stored_names(group["var"]))}
        has_raw = "raw" in group and "X" in group["raw"] and "var" in group["raw"]
        if has_raw:
            self._features[RAW] = tuple(stored_names(group["raw"]["var"]))
        layers = (Place("layer", name) for name in group.get("layers", ()))
        has_x = "X" in group and group["X"].attrs.get("encoding-type") != "null"
        self.places = (*((X,) if has_x else ()), *layers, *((RAW,) if has_raw else ()))
        self.obsm_keys = tuple(group.get("obsm", ()))

    def feature_names(self, place: Place) -> tuple[str, ...]:
        """Return the names of the columns of a place (features,)."""
        return self._features.get(place, self._features[X])

    def matrix(self, place: Place) -> Matrix:
        """Return what stands at a place, (cells, features), not yet read unless it is stored by columns."""
        from anndata.io import sparse_dataset

        stored = self._group["layers"][place.layer] if place.kind == "layer" else self._holder(place)["X"]
        matrix = sparse_dataset(stored) if hasattr(stored, "keys") else stored
        shape = (len(self.cell_names), len(self.feature_names(place)))
        return readable(matrix, place, shape, stored=("h5py", "zarr"))

    def obsm(self, key: str) -> NamedMatrix | str:
        """Return an entry of ``obsm``, not yet read but for its names; of one without names, what it is."""
        stored = self._group["obsm"][key]
        if not hasattr(stored, "keys") or "column-order" not in stored.attrs:
            return str(stored.attrs.get("encoding-type", "array"))
        frame = StoredFrame(stored, f"obsm {key!r}")
        return NamedMatrix(frame.names, frame.cells, frame)

    def obsm_matrix(self, key: str) -> Matrix | None:
        """Return the values of an entry of ``obsm``, (cells, columns), named or not; None where it is no matrix."""
        from anndata.io import sparse_dataset

        found, values = self.obsm(key), self._group["obsm"][key]
        if isinstance(found, str):
            values = sparse_dataset(values) if found in ("csr_matrix", "csc_matrix") else values
            return _unnamed(values, key, self.cell_names, stored=("h5py", "zarr"))
        return found.matrix

    def obsm_columns(self, key: str) -> tuple[str, ...]:
        """Return the names of the columns of an entry of ``obsm``; none where it has no names."""
        return column_names(self._group["obsm"][key])

    def feature_columns(self, place: Place) -> dict[str, tuple[str, ...]]:
        """Read the columns that describe the features of a place in text (features,), by name."""
        from anndata.io import read_elem

        return _text_columns(read_elem(self._holder(place)["var"]))

    def _holder(self, place: Place) -> Group:
        """Return what a place shares its features with: the AnnData, or its ``raw``."""
        return self._group["raw"] if place == RAW else self._group


class TenxTable:
    """An open 10x ``.h5`` file: genes stand in ``X``, proteins in ``obsm``."""

    def __init__(self, file: TenxFile) -> None:
        self._features = file.features
        self._rows = SharedRows(file, "the 10x matrix")
        self.cell_names = file.cells
        self.places: tuple[Place, ...] = (X,)
        self.obsm_keys: tuple[str, ...] = (PROTEIN_KEY,) if len(file.features.proteins) else ()

    def feature_names(self, place: Place) -> tuple[str, ...]:
        """Return the symbols of the genes (genes,)."""
        return tuple(self._features.names[self._features.genes])

    def matrix(self, place: Place) -> Matrix:
        """Return the counts of genes (cells, genes), not yet read."""
        return Columns(self._rows, self._features.genes)

    def obsm(self, key: str) -> NamedMatrix | str:
        """Return the counts of proteins (cells, proteins), not yet read."""
        return NamedMatrix(self._features.protein_names, self.cell_names, self.obsm_matrix(key))

    def obsm_matrix(self, key: str) -> Matrix | None:
        """Return the counts of proteins (cells, proteins), not yet read."""
        return Columns(self._rows, self._features.proteins)

    def obsm_columns(self, key: str) -> tuple[str, ...]:
        """Return the names of the proteins (proteins,)."""
        return self._features.protein_names

    def feature_columns(self, place: Place) -> dict[str, tuple[str, ...]]:
        """Return the ids, types and genomes of the genes (genes,), by name."""
        return _text_columns(self._features.var)


def _unnamed(values: Any, key: str, cells: pd.Index, stored: tuple[str, ...]) -> Matrix | None:
    shape: tuple[int, ...] = getattr(values, "shape", ())
    return readable(values, f"obsm {key!r}", (len(cells), shape[1]), stored) if len(shape) == 2 else None


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
