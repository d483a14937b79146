"""The same cells in every format that queries and references come in, and what is done to them there."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import mudata
import numpy as np
from anndata import AnnData
from scipy import sparse
from scipy.io import mmwrite
from tests.support.queries import make_mudata, protein_modality, refusal, rna_modality

from totalanvi.formats.mudata_options import not_pulling
from totalanvi.serving.errors import QueryError
from totalanvi.serving.queries.readers import open_query, read_object

__all__ = [
    "FORMATS",
    "read_blocks",
    "refused_whole_and_in_blocks",
    "replace_dataset",
    "write_tenx_folder",
    "write_tenx_h5",
]

PROTEIN_KEY = "protein_expression"


def tenx_features(query: AnnData) -> tuple[list[str], list[str], list[str]]:
    """Ids, names and types of a query's genes and then its proteins, as Cell Ranger lists them."""
    proteins = list(query.obsm[PROTEIN_KEY].columns) if PROTEIN_KEY in query.obsm else []
    ids = [str(found) for found in query.var.get("gene_ids", query.var_names)]
    types = ["Gene Expression"] * query.n_vars + ["Antibody Capture"] * len(proteins)
    return [*ids, *proteins], [*query.var_names, *proteins], types


def tenx_counts(query: AnnData) -> sparse.csr_matrix:
    """Counts of genes and then proteins (cells, features), int32."""
    parts = [sparse.csr_matrix(query.X)]
    if PROTEIN_KEY in query.obsm:
        parts.append(sparse.csr_matrix(query.obsm[PROTEIN_KEY].to_numpy()))
    return sparse.hstack(parts, format="csr").astype(np.int32)


def write_tenx_h5(query: AnnData, path: Path, version: int = 3) -> Path:
    """Write a file as Cell Ranger 3, or 2, does."""
    counts = tenx_counts(query)
    ids, names, types = tenx_features(query)
    strings = [np.array(values, dtype="S") for values in (query.obs_names, ids, names, types)]
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix" if version == 3 else "GRCh38")
        group["barcodes"] = strings[0]
        group["data"], group["indices"] = counts.data, counts.indices.astype(np.int64)
        group["indptr"] = counts.indptr.astype(np.int64)
        group["shape"] = np.array(counts.shape[::-1], dtype=np.int32)
        if version == 3:
            group["features/id"], group["features/name"], group["features/feature_type"] = strings[1:]
            group["features/genome"] = np.array(["GRCh38"] * len(ids), dtype="S")
            group["features/_all_tag_keys"] = np.array(["genome"], dtype="S")
        else:
            group["genes"], group["gene_names"] = strings[1:3]
    return path


def write_tenx_folder(query: AnnData, folder: Path, version: int = 3, compressed: bool | None = None) -> Path:
    """Write a folder as Cell Ranger 3 does, compressed, or 2, not; unless told otherwise."""
    folder.mkdir()
    ids, names, types = tenx_features(query)
    columns = (ids, names, types) if version == 3 else (ids, names)
    files = {
        "barcodes.tsv": "".join(f"{name}\n" for name in query.obs_names),
        "features.tsv" if version == 3 else "genes.tsv": "".join(
            "\t".join(row) + "\n" for row in zip(*columns, strict=True)
        ),
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    mmwrite(folder / "matrix.mtx", sparse.coo_matrix(tenx_counts(query).T), field="integer", symmetry="general")
    if compressed if compressed is not None else version == 3:
        for file in list(folder.iterdir()):
            file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
            file.unlink()
    return folder


def _h5ad(query: AnnData, folder: Path) -> Path:
    query.write_h5ad(folder / "query.h5ad")
    return folder / "query.h5ad"


def _as_mudata(query: AnnData) -> mudata.MuData:
    return make_mudata(rna=rna_modality(query), prot=protein_modality(query))


def _h5mu(query: AnnData, folder: Path) -> Path:
    with not_pulling():
        _as_mudata(query).write_h5mu(folder / "query.h5mu")
    return folder / "query.h5mu"


def _zarr(as_stored: Callable[[AnnData], Any], version: int) -> Callable[[AnnData, Path], Path]:
    def write(query: AnnData, folder: Path) -> Path:
        with anndata.settings.override(zarr_write_format=version), not_pulling():
            as_stored(query).write_zarr(folder / "query.zarr")
        return folder / "query.zarr"

    return write


FORMATS: dict[str, Callable[[AnnData, Path], Path]] = {
    "h5ad": _h5ad,
    "h5mu": _h5mu,
    "10x h5": lambda query, folder: write_tenx_h5(query, folder / "query.h5"),
    "10x folder": lambda query, folder: write_tenx_folder(query, folder / "query"),
    "10x folder, not compressed": lambda query, folder: write_tenx_folder(query, folder / "query", compressed=False),
    "zarr 2": _zarr(lambda query: query, 2),
    "zarr 3": _zarr(lambda query: query, 3),
    "zarr 2 of a MuData": _zarr(_as_mudata, 2),
    "zarr 3 of a MuData": _zarr(_as_mudata, 3),
}
"""Ways to write a query (RNA in X, proteins in ``obsm["protein_expression"]``) into an empty folder."""


def replace_dataset(file: h5py.File, name: str, values: object) -> None:
    """Put other values in the place of a data set, which keeps its attributes."""
    attributes = dict(file[name].attrs)
    del file[name]
    file[name] = values
    for key, value in attributes.items():
        file[name].attrs[key] = value


def read_blocks(path: Path) -> None:
    """Read a stored query as it is mapped, a few cells at a time."""
    with open_query(path) as source:
        list(source.blocks(5))


def refused_whole_and_in_blocks(path: Path, *parts: str) -> None:
    """Assert that a stored query is refused in both ways of reading it, with a message that names ``parts``."""
    refusal(QueryError, lambda: read_blocks(path), *parts)
    refusal(QueryError, lambda: read_object(path), *parts)
