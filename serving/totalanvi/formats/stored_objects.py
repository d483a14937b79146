"""Cells as the object that a file or folder holds, with matrices that stay there and are read by rows."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from totalanvi.formats.errors import FormatError, reading
from totalanvi.formats.mudata_options import not_pulling
from totalanvi.formats.stores import Group, content_of, layout_of, open_hdf5, open_zarr, opened_hdf5

if TYPE_CHECKING:
    import anndata
    import mudata

__all__ = ["bytes_of_counts", "open_object"]


def open_object(path: Path) -> anndata.AnnData | mudata.MuData:
    """Open ``.h5ad``, ``.h5mu``, or a Zarr folder of an AnnData or a MuData.

    Columns, names and tables of ``obsm`` are read. What lies in ``X``, ``layers``, ``raw`` and arrays of ``obsm`` stays
    in the file, which is open as long as the object is in use. ``uns``, ``varm``, ``obsp`` and ``varp`` are left out.

    Raises
    ------
    FormatError
        When nothing is there, it is damaged, reaches outside itself, or holds something else.

    Examples
    --------
    >>> open_object(Path("reference.h5ad")).X  # doctest: +SKIP
    CSRDataset: backend hdf5, shape (1000000, 4000), data_dtype float32
    """
    layout = layout_of(path)
    group = None if layout == "10x folder" else open_zarr(path) if layout == "zarr" else opened_hdf5(path)
    content = "10x" if group is None else content_of(path, group)
    if group is None or content == "10x":
        raise FormatError(
            f"Expected cells that can be read by rows, in an AnnData or a MuData (.h5ad, .h5mu, Zarr); found the 10x "
            f"matrix {str(path)!r}. Read it whole (--no-backed), or write it once with adata.write_h5ad."
        )
    with reading(path):
        if content == "anndata":
            return _anndata(group)
        import mudata
        from anndata.io import read_elem

        named = np.asarray(group["mod"].attrs.get("mod-order", list(group["mod"]))).astype(str).tolist()
        with not_pulling():
            mdata = mudata.MuData({name: _anndata(group["mod"][name]) for name in named})
        mdata.obs = read_elem(group["obs"]).reindex(mdata.obs_names)
        return mdata


def bytes_of_counts(path: Path) -> int | None:
    """How much memory all matrices of cells × features would take, read whole; None for what has to be read whole.

    Raises
    ------
    FormatError
        As `open_object`.
    """
    layout = layout_of(path)
    if layout == "10x folder":
        return None
    with nullcontext(open_zarr(path)) if layout == "zarr" else open_hdf5(path) as group, reading(path):
        content = content_of(path, group)
        tables = [group["mod"][name] for name in group["mod"]] if content == "mudata" else [group]
        matrices = [] if content == "10x" else [matrix for table in tables for matrix in _matrices(table)]
        if content == "10x" or any(matrix.attrs.get("encoding-type") == "csc_matrix" for matrix in matrices):
            return None
        return sum(_bytes_of(matrix) for matrix in matrices)


def _anndata(group: Group) -> anndata.AnnData:
    import anndata
    from anndata.io import read_elem

    adata = anndata.AnnData(
        _matrix(group["X"]) if _has_x(group) else None,
        obs=read_elem(group["obs"]),
        var=read_elem(group["var"]),
        layers={name: _matrix(group["layers"][name]) for name in group.get("layers", ())},
        obsm={name: _of_obsm(group["obsm"][name]) for name in group.get("obsm", ())},
    )
    if "raw" in group and "X" in group["raw"] and "var" in group["raw"]:
        adata.raw = anndata.AnnData(_matrix(group["raw"]["X"]), obs=adata.obs[[]], var=read_elem(group["raw"]["var"]))
    return adata


def _has_x(group: Group) -> bool:
    return "X" in group and group["X"].attrs.get("encoding-type") != "null"


def _matrices(group: Group) -> list[Any]:
    found = [group["X"]] if _has_x(group) else []
    found += [group["layers"][name] for name in group.get("layers", ())]
    return found + ([group["raw"]["X"]] if "raw" in group and "X" in group["raw"] else [])


def _bytes_of(stored: Any) -> int:
    arrays = [stored["data"], stored["indices"]] if hasattr(stored, "keys") else [stored]
    return sum(int(np.prod(array.shape, dtype=np.int64)) * array.dtype.itemsize for array in arrays)


def _matrix(stored: Any) -> Any:
    from anndata.io import sparse_dataset

    return sparse_dataset(stored) if hasattr(stored, "keys") else stored


def _of_obsm(stored: Any) -> Any:
    is_table = hasattr(stored, "keys") and "column-order" in stored.attrs
    return _table(stored) if is_table else _matrix(stored)


def _table(stored: Group) -> pd.DataFrame:
    """Read a DataFrame; one of numbers into a single array, of two bytes each where they are counts that fit."""
    from anndata.io import read_elem

    names = np.asarray(stored.attrs["column-order"]).tolist()
    columns = [stored[name] for name in names]
    if not columns or not all(_is_numeric(column) for column in columns):
        table: pd.DataFrame = read_elem(stored)
        return table
    index = pd.Index(read_elem(stored[stored.attrs["_index"]]))
    values = np.zeros((len(index), len(columns)), np.uint16)
    for place, column in enumerate(columns):
        found = column[:]
        if values.dtype == np.uint16 and not _are_small_counts(found):
            values = values.astype(np.result_type(*(each.dtype for each in columns)))
        values[:, place] = found
    return pd.DataFrame(values, index=index, columns=names, copy=False)


def _is_numeric(column: Any) -> bool:
    return not hasattr(column, "keys") and column.attrs.get("encoding-type") == "array" and column.dtype.kind in "uif"


def _are_small_counts(values: npt.NDArray[Any]) -> bool:
    with np.errstate(invalid="ignore"):
        return bool(np.array_equal(values.astype(np.uint16), values))
