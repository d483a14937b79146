"""Copies of queries as ``.h5ad`` and ``.h5mu``, from whatever format they have."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from totalanvi.formats.stores import content_of, layout_of, open_hdf5, open_zarr
from totalanvi.formats.tenx_h5 import TenxFile
from totalanvi.serving.outputs.stored_copies import copy_anndata, copy_mudata, copy_tenx
from totalanvi.serving.queries.readers import read_object

__all__ = ["copy_ahead", "copy_query", "is_copied_whole"]

_AHEAD_BYTES = 1 << 25
"""More than a block of cells has in most files, so that a copy is ready when the last block is."""

_BUFFER_BYTES = 1 << 18


def is_copied_whole(query: Path, modality: str | None) -> bool:
    """Tell whether a copy of a query, or of one of its modalities, is its file byte by byte."""
    if modality is not None or layout_of(query) != "hdf5":
        return False
    with open_hdf5(query) as source:
        return content_of(query, source) != "10x"


def copy_ahead(query: Path, path: Path) -> None:
    """Begin what `copy_query` will complete, or go on with it: for a file that is copied whole.

    Raises
    ------
    OSError
        When there is no room for it.
    """
    if not path.exists():
        _require_room(path, query.stat().st_size)
    _append(query, path, _AHEAD_BYTES)


def copy_query(query: Path, path: Path, modality: str | None, room_for: int) -> None:
    """Write a query that could be read, as it is, into an HDF5 file.

    Parameters
    ----------
    query
        Its file or folder.
    path
        The file to write: an AnnData, or a MuData when the query is one and no modality is named. A beginning of it,
        see `copy_ahead`, is completed.
    modality
        Name of the only modality to copy; None for all that the query holds.
    room_for
        Bytes that will be added to the copy.

    Raises
    ------
    OSError
        When there is no room for it.
    """
    import h5py

    layout = layout_of(query)
    _require_room(path, _size(query) - (path.stat().st_size if path.exists() else 0) + room_for)
    if layout == "10x folder":
        read_object(query).write_h5ad(path)
    elif layout == "zarr":
        store = open_zarr(query)
        with h5py.File(path, "w") as target:
            if content_of(query, store) == "mudata" and modality is None:
                copy_mudata(store, target)
            else:
                copy_anndata(store if modality is None else store["mod"][modality], target)
    else:
        _copy_hdf5(query, path, modality)


def _copy_hdf5(query: Path, path: Path, modality: str | None) -> None:
    import h5py

    if is_copied_whole(query, modality):
        _append(query, path, query.stat().st_size)
        return
    if modality is None:
        with open_hdf5(query) as source, h5py.File(path, "w") as target:
            copy_tenx(TenxFile(source), target)
        return
    with h5py.File(query, "r") as source, h5py.File(path, "w") as target:
        group = source["mod"][modality]
        target.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        for name in group:
            source.copy(group[name], target, name=name)


def _append(query: Path, path: Path, n_bytes: int) -> None:
    """Add to the beginning of a copy what comes next, so many bytes or as many as there are."""
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    with query.open("rb", buffering=0) as source, path.open("ab") as target:
        source.seek(target.tell())
        while n_bytes > 0 and (n_read := source.readinto(buffer[: min(n_bytes, len(buffer))])):
            target.write(buffer[:n_read])
            n_bytes -= n_read


def _size(query: Path) -> int:
    """Bytes of a file, or of the files in a folder."""
    if query.is_file():
        return query.stat().st_size
    return sum(path.stat().st_size for path in query.rglob("*") if path.is_file())


def _require_room(path: Path, n_bytes: int) -> None:
    """Raise OSError when a file of this size cannot be made here: HDF5 may crash where writing fails half-way."""
    with tempfile.NamedTemporaryFile(dir=path.parent) as scratch:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(scratch.fileno(), 0, n_bytes)
