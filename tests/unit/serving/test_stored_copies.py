"""Annotated copies hold all that the query's folder or file held, whatever its size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse
from tests.support.queries import toy_mudata
from tests.support.stored_queries import FORMATS, write_tenx_h5
from tests.support.toy_bundle import toy_query

from totalanvi.formats.mudata_options import not_pulling
from totalanvi.serving.outputs import stored_copies
from totalanvi.serving.outputs.copies import copy_query
from totalanvi.serving.queries.readers import read_object


def rich_query() -> AnnData:
    """Make a query with something in every place, its first cells without counts."""
    query = toy_query(23)
    query.X = sparse.diags((np.arange(23) > 9).astype(np.float32)).tocsr() @ query.X
    query.layers["dense"] = query.X.toarray() * 0.5
    query.layers["columns"] = sparse.csc_matrix(query.X)
    query.obs["kind"] = pd.Categorical(["a", "b"] * 11 + ["a"])
    query.obs["maybe"] = pd.array([1, None, 3] * 7 + [4, 5], dtype="Int64")
    query.obsm["X_pca"] = np.eye(23, 4)
    query.obsp["near"] = sparse.eye(23, format="csr")
    query.uns["nested"] = {"text": "here", "numbers": np.arange(3)}
    query.raw = query.copy()
    return query[:, 5:].copy()


def assert_equal(found: AnnData, expected: AnnData) -> None:
    for get in (lambda a: a.X, lambda a: a.raw.X, lambda a: a.layers["columns"], lambda a: a.obsp["near"]):
        np.testing.assert_array_equal(get(found).toarray(), get(expected).toarray())
    np.testing.assert_array_equal(found.layers["dense"], expected.layers["dense"])
    np.testing.assert_array_equal(found.obsm["X_pca"], expected.obsm["X_pca"])
    np.testing.assert_array_equal(found.obsm["protein_expression"], expected.obsm["protein_expression"])
    assert found.obs.astype(str).equals(expected.obs.astype(str))
    assert list(found.raw.var_names) == list(expected.raw.var_names)
    assert found.uns["nested"]["text"] == "here"
    assert found.layers["columns"].format == "csc"


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_copies, "_WINDOW", 4)


@pytest.mark.parametrize("kind", ["zarr 2", "zarr 3"])
def test_an_anndata_is_copied_whole(kind: str, tmp_path: Path) -> None:
    query = rich_query()
    copy_query(FORMATS[kind](query, tmp_path), tmp_path / "copy.h5ad", None, 0)
    assert_equal(anndata.read_h5ad(tmp_path / "copy.h5ad"), query)


@pytest.mark.parametrize("version", [2, 3])
def test_a_mudata_is_copied_whole(version: int, tmp_path: Path) -> None:
    mdata: Any = toy_mudata(n_cells=23)
    mdata.obs["kind"] = pd.Categorical(["a"] * 23)
    with anndata.settings.override(zarr_write_format=version), not_pulling():
        mdata.write_zarr(tmp_path / "query.zarr")
        copy_query(tmp_path / "query.zarr", tmp_path / "copy.h5mu", None, 0)
        copy_query(tmp_path / "query.zarr", tmp_path / "copy.h5ad", "rna", 0)
        found = mudata.read_h5mu(tmp_path / "copy.h5mu")
    assert list(found.mod) == list(mdata.mod)
    assert list(found.obs_names) == list(mdata.obs_names)
    assert list(found.obs["kind"]) == list(mdata.obs["kind"])
    for name, expected in mdata.mod.items():
        np.testing.assert_array_equal(found.mod[name].X.toarray(), expected.X.toarray())
        np.testing.assert_array_equal(found.obsmap[name], mdata.obsmap[name])
    rna = anndata.read_h5ad(tmp_path / "copy.h5ad")
    np.testing.assert_array_equal(rna.X.toarray(), mdata.mod["rna"].X.toarray())


@pytest.mark.parametrize("proteins", [True, False])
def test_a_10x_file_is_copied_as_it_is_read(proteins: bool, tmp_path: Path) -> None:
    path = write_tenx_h5(toy_query(23, proteins=proteins), tmp_path / "query.h5")
    copy_query(path, tmp_path / "copy.h5ad", None, 0)
    found, expected = anndata.read_h5ad(tmp_path / "copy.h5ad"), read_object(path)
    np.testing.assert_array_equal(found.X.toarray(), expected.X.toarray())
    assert found.X.dtype == expected.X.dtype
    assert list(found.obs_names) == list(expected.obs_names)
    assert found.var.astype(str).equals(expected.var.astype(str))
    assert set(found.obsm) == set(expected.obsm)
    if proteins:
        tables = (data.obsm["protein_expression"] for data in (found, expected))
        pd.testing.assert_frame_equal(*tables, check_index_type=False)  # text, of one type or another
