"""A query that is backed by a file is mapped window by window, and stays in its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import anndata
import h5py
import numpy as np
import pytest
from tests.support.toy_bundle import toy_query

from totalanvi.serving.mapping.local import LocalReference


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    query = toy_query(200)
    query.raw = query.copy()
    query.varm["loadings"] = np.ones((query.n_vars, 2))
    query.write_h5ad(tmp_path / "query.h5ad")
    return tmp_path / "query.h5ad"


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_backed_query_is_annotated_in_memory_alone(
    reference: LocalReference, stored: Path, mode: Literal["r", "r+"]
) -> None:
    query = anndata.read_h5ad(stored, backed=mode)
    query.obs["mine"] = "kept"

    annotated = reference.map(query, layer="X")

    assert annotated.isbacked
    assert str(annotated.filename) == str(stored)
    assert set(annotated.obs["mine"]) == {"kept"}
    assert list(annotated.obs["totalanvi_guess"]) == list(query.obs["truth"])
    assert annotated.varm["loadings"].shape == (query.n_vars, 2)
    assert "totalanvi_label" not in query.obs
    assert "X_totalanvi" not in query.obsm
    in_memory = annotated.to_memory()
    assert (in_memory.X != toy_query(200).X).nnz == 0
    assert (in_memory.raw.X != toy_query(200).X).nnz == 0
    for one in (annotated, query):
        one.file.close()
    assert "totalanvi_label" not in anndata.read_h5ad(stored).obs


def test_a_part_of_a_backed_query_is_read(reference: LocalReference, stored: Path) -> None:
    query = anndata.read_h5ad(stored, backed="r")

    annotated = reference.map(query[20:30], layer="X")

    assert not annotated.isbacked
    assert list(annotated.obs["totalanvi_guess"]) == list(query.obs["truth"][20:30])
    query.file.close()


def test_counts_of_a_backed_query_are_never_read_whole(
    reference: LocalReference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_cells, window = 2000, 100
    whole = toy_query(n_cells)
    whole.write_h5ad(tmp_path / "query.h5ad")
    query = anndata.read_h5ad(tmp_path / "query.h5ad", backed="r")
    read: list[int] = []
    as_it_is = h5py.Dataset.__getitem__

    def watched(self: h5py.Dataset, *args: Any, **kwargs: Any) -> Any:
        found = as_it_is(self, *args, **kwargs)
        if self.name == "/X/data":
            read.append(len(found))
        return found

    monkeypatch.setattr(h5py.Dataset, "__getitem__", watched)

    annotated = reference.map(query, impute=False, batch_size=window)

    assert sum(read) >= whole.X.nnz
    assert max(read) < 2 * whole.X.nnz * window / n_cells
    assert list(annotated.obs["totalanvi_guess"]) == list(whole.obs["truth"])
    for one in (annotated, query):
        one.file.close()
