"""Copies of queries as ``.h5ad`` and ``.h5mu``, from whatever format they have."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from totalanvi.serving.readers import is_mudata, is_one_file, read_object

__all__ = ["copy_query"]


def copy_query(query: Path, path: Path, modality: str | None, room_for: int) -> None:
    """Write a query, as it is, into a new HDF5 file.

    Parameters
    ----------
    query
        Its file or folder.
    path
        The file to write: an AnnData, or a MuData when the query is one and no modality is named.
    modality
        Name of the only modality to copy; None for all that the query holds.
    room_for
        Bytes that will be added to the copy.

    Raises
    ------
    OSError
        When there is no room for it.
    """
    if is_one_file(query):
        _require_room(path, query.stat().st_size + room_for)
        if modality is None:
            shutil.copyfile(query, path)
        else:
            _copy_modality(query, modality, path)
        return
    data: Any = read_object(query)
    parts = dict(data.mod) if is_mudata(data) else {None: data}
    _require_room(path, sum(part.__sizeof__() for name, part in parts.items() if modality in (None, name)) + room_for)
    if modality is not None:
        parts[modality].write_h5ad(path)
    elif is_mudata(data):
        import mudata

        with mudata.set_options(pull_on_update=False):
            data.write_h5mu(path)
    else:
        data.write_h5ad(path)


def _require_room(path: Path, n_bytes: int) -> None:
    """Raise OSError when a file of this size cannot be made here: HDF5 may crash where writing fails half-way."""
    with tempfile.NamedTemporaryFile(dir=path.parent) as scratch:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(scratch.fileno(), 0, n_bytes)


def _copy_modality(mudata_file: Path, modality: str, path: Path) -> None:
    """Make an ``.h5ad`` of one modality of an ``.h5mu``."""
    import h5py

    with h5py.File(mudata_file, "r") as source, h5py.File(path, "w") as target:
        group = source["mod"][modality]
        target.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        for name in group:
            source.copy(group[name], target, name=name)
