"""Files of any number of cells to be mapped, written part by part, so that making them takes little memory."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp
import zarr
from anndata.io import write_elem

import speed_inputs

__all__ = ["Kind", "Store", "drawn_cells", "write_cells"]

_PART = 16_384


class Store(StrEnum):
    """Uncompressed HDF5, HDF5 compressed as ``write_h5ad(compression="gzip")`` does, or Zarr 3 with its defaults."""

    plain = "plain"
    gzip = "gzip"
    zarr = "zarr"


@dataclass(frozen=True)
class Kind:
    """How a file is stored, whether its cells have proteins, and whether its genes are others than the reference's."""

    store: Store = Store.plain
    proteins: bool = False
    more_genes: bool = False

    def __str__(self) -> str:
        return "-".join([self.store, *["proteins"] * self.proteins, *["more_genes"] * self.more_genes])


def drawn_cells(n_cells: int, seed: int) -> npt.NDArray[np.intp]:
    """Return which of the query's cells each cell of a file is, (cells,): drawn again and again, in no order."""
    return np.random.default_rng(seed).integers(0, speed_inputs.N_QUERY, n_cells)


def write_cells(folder: Path, query: ad.AnnData, n_cells: int, kind: Kind, seed: int) -> Path:
    """Write a file or folder of cells drawn from a query; at once when it is there.

    Parameters
    ----------
    folder
        Where to; the name says what is in it.
    query
        Cells to draw from, with counts in ``X``.
    n_cells
        Cells of the file.
    kind
        Of the file.
    seed
        Of the draw.
    """
    name = f"{n_cells}-{kind}-seed{seed}.{'zarr' if kind.store == Store.zarr else 'h5ad'}"
    path, done = folder / name, folder / f"{name}.json"
    if done.exists():
        return path
    cells = drawn_cells(n_cells, seed)
    in_zarr = kind.store == Store.zarr
    opened: Any = zarr.open_group(path, mode="w", zarr_format=3) if in_zarr else h5py.File(path, "w")
    opened.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    counts, genes = sp.csr_matrix(query.X), query.var_names
    if kind.more_genes:
        order = np.random.default_rng(seed).permutation(2 * len(genes))
        counts = sp.hstack([counts, counts], format="csr")[:, order].sorted_indices()
        genes = pd.Index([*genes, *(f"unheard-of-{name}" for name in genes)])[order]
    _write_counts(opened, counts, cells, kind.store)
    names = pd.Index([f"cell-{place:08d}" for place in range(n_cells)])
    batches = query.obs["batch"].to_numpy()
    write_elem(opened, "obs", pd.DataFrame({"batch": pd.Categorical(batches[cells])}, index=names))
    write_elem(opened, "var", pd.DataFrame(index=genes))
    obsm = {}
    if kind.proteins:
        obsm = {speed_inputs.PROTEINS: query.obsm[speed_inputs.PROTEINS].iloc[cells].set_axis(names)}
    write_elem(opened, "obsm", obsm)
    for empty in ("layers", "obsp", "uns", "varm", "varp"):
        write_elem(opened, empty, {})
    if not in_zarr:
        opened.close()
    done.write_text(json.dumps({"cells": n_cells}))
    return path


def _write_counts(target: Any, counts: sp.csr_matrix, cells: npt.NDArray[np.intp], store: Store) -> None:
    """Write ``X`` as CSR, float32 and 32-bit positions, as anndata does."""
    lengths = np.diff(counts.indptr)[cells]
    pointers = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    group = target.create_group("X")
    shape = [len(cells), counts.shape[1]]
    group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": shape})
    kind = np.int32 if pointers[-1] < np.iinfo(np.int32).max else np.int64
    if store == Store.zarr:
        group.create_array("indptr", data=pointers.astype(kind))
        parts = {
            name: group.create_array(name, shape=(int(pointers[-1]),), dtype=dtype)
            for name, dtype in (("data", "float32"), ("indices", "int32"))
        }
    else:
        how = {"compression": "gzip"} if store == Store.gzip else {}
        group.create_dataset("indptr", data=pointers.astype(kind), **how)
        parts = {
            name: group.create_dataset(name, shape=(int(pointers[-1]),), dtype=dtype, **how)
            for name, dtype in (("data", "float32"), ("indices", "int32"))
        }
    for start in range(0, len(cells), _PART):
        rows = counts[cells[start : start + _PART]]
        stored = slice(int(pointers[start]), int(pointers[start]) + rows.nnz)
        parts["data"][stored], parts["indices"][stored] = rows.data, rows.indices
