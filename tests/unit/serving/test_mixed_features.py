"""Queries whose genes and proteins stand together in `var`, as scanpy reads them from a 10x file."""

from __future__ import annotations

from pathlib import Path

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from tests.support.queries import assert_same_annotations, mixed
from tests.support.stored_queries import FORMATS
from tests.support.toy_bundle import TOY, toy_query

from totalanvi.formats.mudata_options import not_pulling
from totalanvi.serving.mapping.local import LocalReference
from totalanvi.serving.mapping.mapping import map_file
from totalanvi.serving.queries.readers import is_mudata, open_query


def test_genes_and_proteins_are_told_apart(reference: LocalReference) -> None:
    query = toy_query(30)
    found = reference.map(mixed(query), samples=2)
    assert_same_annotations(found, reference.map(query, samples=2), uns=False)
    assert found.n_vars == len(TOY.genes) + len(TOY.proteins)
    assert found.uns["totalanvi"]["query"] == {"rna": "X", "proteins": "X, among the genes"}
    without = reference.map(mixed(query), "none", samples=2)
    assert_same_annotations(without, reference.map(query, "none", samples=2), uns=False)


@pytest.mark.parametrize("kind", ["h5ad", "zarr 2", "zarr 3"])
@pytest.mark.parametrize("place", ["X", "layer", "raw"])
def test_in_files_and_wherever_the_counts_are(kind: str, place: str, reference: LocalReference, tmp_path: Path) -> None:
    query = toy_query(23)
    stored = mixed(query)
    if place == "raw":
        stored.raw = stored.copy()
    if place == "layer":
        stored.layers["counts"] = stored.X.copy()
    if place != "X":
        stored.X = np.log1p(stored.X)
    map_file(lambda: reference, FORMATS[kind](stored, tmp_path), str(tmp_path / "out.h5ad"), batch_size=7)
    written = anndata.read_h5ad(tmp_path / "out.h5ad")
    assert_same_annotations(written, reference.map(query), uns=False)
    assert list(written.var_names) == list(stored.var_names)


def test_a_gene_and_a_protein_of_one_name_do_not_meet(tmp_path: Path) -> None:
    query = mixed(toy_query(9))
    names = query.var_names.to_numpy(dtype=object)
    names[3] = TOY.proteins[0]
    query.var_names = names
    for data in (query, FORMATS["h5ad"](query, tmp_path)):
        with open_query(data) as source:
            assert source.gene_names[3] == source.protein_names[0] == TOY.proteins[0]
            block = source.read(2, 6)
        np.testing.assert_array_equal(block.rna.toarray(), query.X[2:6, : len(TOY.genes)].toarray())
        np.testing.assert_array_equal(block.proteins, query.X[2:6, len(TOY.genes) :].toarray())


def test_other_kinds_are_left_out_and_features_without_a_type_are_genes() -> None:
    types = ["GEX"] * 59 + [""] + ["ADT"] * 4 + ["CRISPR Guide Capture", "Peaks"]
    with open_query(mixed(toy_query(5), types)) as source:
        assert list(source.gene_names) == TOY.genes
        assert list(source.protein_names) == TOY.proteins[:4]
        assert len(source.gene_columns["feature_types"]) == len(TOY.genes)


def test_what_obsm_holds_goes_first() -> None:
    query = toy_query(5)
    stored = mixed(query)
    stored.obsm["protein_expression"] = query.obsm["protein_expression"].iloc[:, :2]
    with open_query(stored) as source:
        assert source.protein_place == "obsm 'protein_expression'"
        assert list(source.gene_names) == TOY.genes


def test_in_the_rna_modality_of_a_mudata(reference: LocalReference) -> None:
    query = toy_query(12)
    cells = mixed(query)
    with not_pulling():
        alone = mudata.MuData(
            {"rna": cells, "atac": AnnData(np.ones((12, 2)), obs=pd.DataFrame(index=cells.obs_names))}
        )
    assert is_mudata(alone)
    assert_same_annotations(reference.map(alone).mod["rna"], reference.map(query), uns=False)
    with open_query(alone, "none") as source:
        assert source.protein_names == ()
        assert list(source.gene_names) == TOY.genes


@pytest.mark.parametrize("types", [["Gene Expression"] * 66, ["Antibody Capture"] * 66, ["my own"] * 66])
def test_features_of_one_kind_are_left_as_they_are(types: list[str]) -> None:
    with open_query(mixed(toy_query(5), types)) as source:
        assert len(source.gene_names) == 66
        assert source.protein_names == ()
