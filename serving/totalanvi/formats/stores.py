"""Open what holds cells for reading in parts, once it is known to hold all of its data itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from totalanvi.formats.errors import FormatError, reading
from totalanvi.formats.hdf5_safety import require_self_contained
from totalanvi.formats.zarr_safety import require_enclosed

if TYPE_CHECKING:
    import h5py

__all__ = [
    "MATRIX_FILES",
    "ZARR_ROOTS",
    "Content",
    "Group",
    "Layout",
    "content_of",
    "layout_of",
    "open_hdf5",
    "open_zarr",
    "opened_hdf5",
    "row_pointers",
]

Layout: TypeAlias = Literal["hdf5", "zarr", "10x folder"]
"""How a path stores what it holds."""

Content: TypeAlias = Literal["anndata", "mudata", "10x"]
"""What an HDF5 file or a Zarr folder holds."""

Group: TypeAlias = Any
"""A group of an HDF5 file or of a Zarr folder; what is asked of one here, members and attributes, the other has too."""

ZARR_ROOTS = ("zarr.json", ".zgroup", ".zmetadata")
MATRIX_FILES = ("matrix.mtx.gz", "matrix.mtx")
_KINDS = "an .h5ad or .h5mu file, a 10x .h5 file, a Zarr folder, or the folder of a 10x matrix"


def layout_of(path: Path) -> Layout:
    """Tell how a path stores cells by what is there, whatever its suffix.

    Raises
    ------
    FormatError
        When nothing is there, it may not be read, or it is something else.

    Examples
    --------
    >>> layout_of(Path("filtered_feature_bc_matrix/"))  # doctest: +SKIP
    '10x folder'
    """
    if not path.exists():
        if "://" in str(path) or ":/" in str(path):
            raise FormatError(f"Expected {_KINDS} on this machine; found the address {str(path)!r}. Download it first.")
        raise FormatError(f"Expected {_KINDS}; found nothing at {str(path)!r}. Check the path.")
    if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
        raise FormatError(f"Expected to read {str(path)!r}; found that its permissions forbid it. Change them.")
    if path.is_dir():
        if any((path / name).is_file() for name in ZARR_ROOTS):
            return "zarr"
        if any((path / name).is_file() for name in MATRIX_FILES):
            return "10x folder"
        inside = ", ".join(repr(entry) for entry in sorted(entry.name for entry in path.iterdir())[:5]) or "nothing"
        raise FormatError(
            f"Expected {_KINDS}; found that {str(path)!r} is a folder of neither kind, which holds {inside}. Name the "
            f"file, or the folder that holds {' or '.join(ZARR_ROOTS[:2])} (Zarr) or {MATRIX_FILES[0]} (10x)."
        )
    if path.name.endswith(MATRIX_FILES):
        raise FormatError(
            f"Expected {_KINDS}; found the matrix alone, {str(path)!r}. Name the folder that holds it, its barcodes "
            f"and its features."
        )
    return "hdf5"


def opened_hdf5(path: Path) -> h5py.File:
    """Open an HDF5 file that reaches into no other; it stays open until it is closed, or nothing of it is in use.

    Raises
    ------
    FormatError
        When it is none, truncated, or reaches outside itself.
    """
    import h5py

    if not path.is_file() or not h5py.is_hdf5(path):
        raise FormatError(
            f"Expected an HDF5 file (.h5ad, .h5mu or 10x .h5); found that {str(path)!r} is none. It may be truncated, "
            f"or something else renamed; convert cells with adata.write_h5ad or mdata.write_h5mu."
        )
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise FormatError(
            f"Expected a whole HDF5 file; found that {str(path)!r} is truncated or damaged ({error}). "
            f"Copy it again and compare sizes."
        ) from error
    try:
        with reading(path):
            require_self_contained(file)
    except FormatError:
        file.close()
        raise
    return file


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file that reaches into no other, and close it.

    Raises
    ------
    FormatError
        As `opened_hdf5`.
    """
    with opened_hdf5(path) as file:
        yield file


def open_zarr(path: Path) -> Group:
    """Open a Zarr folder, of format 2 or 3, that leads nowhere else and runs nothing.

    Raises
    ------
    FormatError
        When it is damaged or not whole, leads elsewhere, or has codecs that are not known to be harmless.
    """
    with reading(path):
        import zarr

        require_enclosed(path)
        root: Group = zarr.open_group(path, mode="r")
        for table in (root, *(root["mod"][name] for name in root.get("mod", ()))):
            _require_all_values(path, table)
        return root


def _require_all_values(path: Path, table: Group) -> None:
    """Refuse a folder that was copied in part: Zarr reads zeros where a piece of an array is missing.

    That can be told of sparse matrices, which store no zeros; dense ones leave out pieces that are all 0.
    """
    for name in ("X", "raw/X", *(f"layers/{layer}" for layer in table.get("layers", ()))):
        stored = table.get(f"{name}/data")
        if stored is not None and stored.nchunks_initialized < stored.nchunks:
            raise FormatError(
                f"Expected {stored.nchunks} pieces of {stored.path!r} in {str(path)!r}; found "
                f"{stored.nchunks_initialized}: it is not whole. Copy the folder again."
            )


def content_of(path: Path, group: Group) -> Content:
    """Tell what an open file or folder holds by its members.

    Raises
    ------
    FormatError
        When it is none of the kinds that are known.
    """
    names = set(group)
    if {"mod", "obs"} <= names:
        return "mudata"
    if {"obs", "var"} <= names:
        return "anndata"
    members = [group[name] for name in names if hasattr(group, "file")]  # Cell Ranger writes HDF5 only
    if any("barcodes" in member for member in members if hasattr(member, "keys")):
        return "10x"
    found = ", ".join(repr(name) for name in sorted(names)[:8]) or "nothing"
    raise FormatError(
        f"Expected an AnnData (obs, var), a MuData (obs, mod) or a 10x matrix (barcodes, features) in {str(path)!r}; "
        f"found {found}. Write the cells with adata.write_h5ad or mdata.write_h5mu."
    )


def row_pointers(group: Group, n_rows: int) -> npt.NDArray[np.int64] | None:
    """Read where each row of a stored CSR begins, and where the last one ends, (rows + 1,).

    None when they do not rise from 0 to the number of values: read row by row, wrong ones would give wrong cells.
    """
    stored, n_values = group["indptr"], group["data"].shape[0]
    if stored.shape != (n_rows + 1,) or group["indices"].shape != (n_values,):
        return None
    pointers: npt.NDArray[np.int64] = stored[:].astype(np.int64)
    rise = pointers[0] == 0 and pointers[-1] == n_values and np.all(np.diff(pointers) >= 0)
    return pointers if rise else None
