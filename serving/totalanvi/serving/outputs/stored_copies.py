"""Copies of Zarr folders and 10x files as HDF5, the matrices window by window, so that no whole one is in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import h5py
    from scipy import sparse

    from totalanvi.formats.stores import Group
    from totalanvi.formats.tenx_h5 import TenxFile

__all__ = ["copy_anndata", "copy_mudata", "copy_tenx"]

_WINDOW = 4096
"""Rows, or columns of what is stored by columns, that are copied at a time."""

_CHUNK = 1 << 16
"""Values that HDF5 keeps together."""


def copy_anndata(source: Group, target: h5py.Group) -> None:
    """Copy a stored AnnData into an empty group.

    Parameters
    ----------
    source
        Opened for reading.
    target
        Opened for writing.
    """
    from anndata.io import read_elem, write_elem

    target.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    for name in source:
        if name == "X":
            _copy_matrix(source[name], target, name)
        elif name == "layers":
            write_elem(target, name, {})
            for layer in source[name]:
                _copy_matrix(source[name][layer], target[name], layer)
        elif name == "raw" and "X" in getattr(source[name], "keys", tuple)():
            raw = target.create_group(name)
            raw.attrs.update({"encoding-type": "raw", "encoding-version": "0.1.0"})
            for part in source[name]:
                if part == "X":
                    _copy_matrix(source[name][part], raw, part)
                else:
                    write_elem(raw, part, read_elem(source[name][part]))
        else:
            write_elem(target, name, read_elem(source[name]))


def copy_mudata(source: Group, target: h5py.Group) -> None:
    """Copy a stored MuData into an empty group; as `copy_anndata`."""
    from anndata.io import read_elem, write_elem

    _copy_attributes(source, target)
    for name in source:
        if name == "mod":
            _copy_attributes(source[name], target.create_group(name))
            for modality in source[name]:
                copy_anndata(source[name][modality], target[name].create_group(modality))
        else:
            write_elem(target, name, read_elem(source[name]))


def copy_tenx(source: TenxFile, target: h5py.Group) -> None:
    """Write a 10x file into an empty group, as `totalanvi.formats.tenx.tenx_anndata` puts it together."""
    from anndata.io import write_elem

    from totalanvi.formats.tenx import PROTEIN_KEY

    features = source.features
    target.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    write_elem(target, "obs", pd.DataFrame(index=source.cells))
    write_elem(target, "var", features.var)
    for name in ("layers", "obsm", "obsp", "uns", "varm", "varp"):
        write_elem(target, name, {})
    proteins = np.empty((len(source.cells), len(features.proteins)), dtype=source.dtype)

    def window(start: int, stop: int) -> sparse.csr_matrix:
        counts = source[start:stop]
        proteins[start:stop] = counts[:, features.proteins].toarray()
        return counts[:, features.genes]

    _append_windows(window, len(source.cells), target, "X")
    if len(features.proteins):
        frame = pd.DataFrame(proteins, index=source.cells, columns=list(features.protein_names))
        write_elem(target["obsm"], PROTEIN_KEY, frame)


def _copy_matrix(stored: Any, target: h5py.Group, name: str) -> None:
    from anndata.io import read_elem, sparse_dataset, write_elem

    if stored.attrs.get("encoding-type") in ("csr_matrix", "csc_matrix"):
        matrix = sparse_dataset(stored)
        by_rows = matrix.format == "csr"
        _append_windows(
            lambda start, stop: matrix[start:stop] if by_rows else matrix[:, start:stop],
            matrix.shape[0 if by_rows else 1],
            target,
            name,
        )
    elif getattr(stored, "ndim", 0) == 2 and stored.dtype.kind in "buif":
        copied = target.create_dataset(name, shape=stored.shape, dtype=stored.dtype)
        copied.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        for start in range(0, stored.shape[0], _WINDOW):
            copied[start : start + _WINDOW] = stored[start : start + _WINDOW]
    else:
        write_elem(target, name, read_elem(stored))


def _append_windows(window: Callable[[int, int], Any], length: int, target: h5py.Group, name: str) -> None:
    """Write a sparse matrix that is given in windows along the axis by which it is stored."""
    from anndata.io import sparse_dataset, write_elem

    # By default a chunk is as large as the first window.
    write_elem(target, name, window(0, min(_WINDOW, length)), dataset_kwargs={"chunks": (_CHUNK,)})
    for start in range(_WINDOW, length, _WINDOW):
        sparse_dataset(target[name]).append(window(start, min(start + _WINDOW, length)))


def _copy_attributes(source: Group, target: h5py.Group) -> None:
    for key, value in dict(source.attrs).items():
        target.attrs[key] = np.array(value, dtype=object) if isinstance(value, list) else value
