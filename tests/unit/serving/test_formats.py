"""The same cells map to the same output, whatever format they come in."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse
from tests.support.queries import assert_same_annotations, refusal
from tests.support.stored_queries import FORMATS, write_tenx_folder, write_tenx_h5
from tests.support.toy_bundle import TOY, toy_query

from totalanvi.formats.mudata_options import not_pulling
from totalanvi.serving.errors import CountsError, OutputError
from totalanvi.serving.mapping.local import LocalReference
from totalanvi.serving.mapping.mapping import map_file
from totalanvi.serving.queries.readers import is_mudata, open_query, read_object


def annotated_part(mapped: Any) -> Any:
    return mapped.mod["rna"] if is_mudata(mapped) else mapped


@pytest.mark.parametrize("kind", FORMATS)
def test_the_same_cells_map_to_the_same_output(kind: str, reference: LocalReference, tmp_path: Path) -> None:
    query = toy_query(23)
    expected = reference.map(query)
    path = FORMATS[kind](query, tmp_path)
    assert_same_annotations(annotated_part(reference.map(path)), expected, uns=False)
    summary = map_file(lambda: reference, path, str(tmp_path / "out.h5ad"), batch_size=7)
    assert summary.n_cells == 23
    assert summary.alignment.proteins.matched == len(TOY.proteins)
    written = anndata.read_h5ad(tmp_path / "out.h5ad")
    assert_same_annotations(written, expected, uns=False)
    np.testing.assert_array_equal(written.X.toarray(), query.X.toarray())
    assert list(written.var["gene_ids"][:-1]) == list(query.var["gene_ids"][:-1])


@pytest.mark.parametrize("kind", FORMATS)
def test_blocks_of_any_size_hold_the_same_counts(kind: str, tmp_path: Path) -> None:
    query = toy_query(12)
    path = FORMATS[kind](query, tmp_path)
    for size in (1, 5, 1000):
        with open_query(path) as source:
            blocks = list(source.blocks(size))
        np.testing.assert_array_equal(np.concatenate([block.rna.toarray() for block in blocks]), query.X.toarray())
        proteins = np.concatenate([block.proteins for block in blocks])
        np.testing.assert_array_equal(proteins, query.obsm["protein_expression"])
        assert [name for block in blocks for name in block.cell_ids] == list(query.obs_names)


@pytest.mark.parametrize("kind", FORMATS)
def test_what_a_format_holds_is_read_whole(kind: str, tmp_path: Path) -> None:
    query = toy_query(6)
    found = annotated_part(read_object(FORMATS[kind](query, tmp_path)))
    np.testing.assert_array_equal(found.X.toarray(), query.X.toarray())
    assert list(found.var_names) == TOY.genes


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if "MuData" in kind or kind == "h5mu"])
def test_a_mudata_maps_into_a_mudata(kind: str, reference: LocalReference, tmp_path: Path) -> None:
    query = toy_query(9)
    map_file(lambda: reference, FORMATS[kind](query, tmp_path), str(tmp_path / "out.h5mu"))
    with not_pulling():
        written = mudata.read_h5mu(tmp_path / "out.h5mu")
    assert_same_annotations(written.mod["rna"], reference.map(query), uns=False)


@pytest.mark.parametrize("kind", ["10x h5", "10x folder", "zarr 3"])
def test_an_anndata_maps_into_no_mudata(kind: str, reference: LocalReference, tmp_path: Path) -> None:
    path = FORMATS[kind](toy_query(5), tmp_path)
    with pytest.raises(OutputError, match="found an AnnData"):
        map_file(lambda: reference, path, str(tmp_path / "out.h5mu"))


@pytest.mark.parametrize("version", [2, 3])
def test_what_10x_says_of_its_genes_is_kept(version: int, tmp_path: Path) -> None:
    query = toy_query(5, proteins=version == 3)
    for path in (write_tenx_h5(query, tmp_path / "q.h5", version), write_tenx_folder(query, tmp_path / "q", version)):
        found = read_object(path)
        assert list(found.var["gene_ids"]) == [str(name) for name in query.var["gene_ids"]]
        assert set(found.var["feature_types"]) == {"Gene Expression"}
        assert ("protein_expression" in found.obsm) == (version == 3)
        np.testing.assert_array_equal(found.X.toarray(), query.X.toarray())
    assert set(read_object(tmp_path / "q.h5").var["genome"]) == {"GRCh38"}


STORED = ["h5ad", "h5mu", "zarr 2", "zarr 3"]


@pytest.mark.parametrize("kind", STORED)
@pytest.mark.parametrize("place", ["X", "layer 'counts'", "raw"])
def test_counts_are_found_wherever_they_are(kind: str, place: str, tmp_path: Path) -> None:
    query = toy_query(12)
    counts = query.X.copy()
    if place == "raw":
        query.raw = query.copy()
        query = query[:, 7:].copy()
    elif place != "X":
        query.layers["counts"] = counts
    query.layers["scaled"] = query.X * 0.3
    if place != "X":
        query.X = np.log1p(query.X)
    path = FORMATS[kind](query, tmp_path)
    for data, layer in ((path, None), (read_object(path), None), (path, place.removeprefix("layer ").strip("'"))):
        with open_query(data, layer=layer) as source:
            assert source.rna_place == place
            blocks = list(source.blocks(5))
        np.testing.assert_array_equal(np.concatenate([block.rna.toarray() for block in blocks]), counts.toarray())
        assert list(blocks[0].gene_names) == TOY.genes


@pytest.mark.parametrize("kind", STORED)
def test_counts_in_two_places_are_refused_until_one_is_named(kind: str, tmp_path: Path) -> None:
    query = toy_query(12)
    query.layers["corrected"] = query.X * 2
    query.raw = query[:, 2:].copy()
    path = FORMATS[kind](query, tmp_path)
    found = ("exactly one place", "X holds raw counts", "'corrected' holds raw counts", "raw holds raw counts")
    for data in (path, read_object(path)):
        refusal(CountsError, lambda data=data: open_query(data).__enter__(), *found, "--layer NAME")
        for layer, n_genes in (("X", 60), ("corrected", 60), ("raw", 58)):
            with open_query(data, layer=layer) as source:
                assert len(source.gene_names) == n_genes


@pytest.mark.parametrize("kind", ["h5mu", "zarr 3 of a MuData"])
def test_counts_of_proteins_are_found_too(kind: str, tmp_path: Path) -> None:
    mdata = read_object(FORMATS[kind](toy_query(12), tmp_path))
    counts = mdata.mod["prot"].X.toarray()
    mdata.mod["prot"].layers["counts"] = counts
    mdata.mod["prot"].X = np.log1p(counts)
    with open_query(mdata) as source:
        np.testing.assert_array_equal(source.read(0, 12).proteins, counts)
    mdata.mod["prot"].layers["counts"] = counts + 0.5
    refusal(CountsError, lambda: open_query(mdata).__enter__(), "modality 'prot'", "'counts' holds ")


def test_other_kinds_of_features_are_left_out(tmp_path: Path) -> None:
    query = toy_query(5)
    folder = write_tenx_folder(query, tmp_path / "query", compressed=False)
    lines = (folder / "features.tsv").read_text().splitlines()
    lines[2] = lines[2].replace("Gene Expression", "Peaks")
    lines[-1] = lines[-1].replace("Antibody Capture", "CRISPR Guide Capture")
    (folder / "features.tsv").write_text("\n".join(lines))
    with open_query(folder) as source:
        assert list(source.gene_names) == TOY.genes[:2] + TOY.genes[3:]
        assert list(source.protein_names) == TOY.proteins[:-1]


@pytest.mark.parametrize("kind", ["h5ad", "h5mu", "10x h5", "zarr 3"])
def test_blocks_are_read_without_the_rest(kind: str, tmp_path: Path) -> None:
    n_cells = 3000
    query = AnnData(sparse.csr_matrix(np.random.default_rng(1).poisson(3, (n_cells, 500)).astype(np.float32)))
    query.obsm["protein_expression"] = pd.DataFrame(
        np.random.default_rng(2).poisson(3, (n_cells, 200)),
        index=query.obs_names,
        columns=[f"p{i}" for i in range(200)],
    )
    n_bytes = query.X.data.nbytes + query.X.indices.nbytes + query.obsm["protein_expression"].to_numpy().nbytes
    with open_query(FORMATS[kind](query, tmp_path)) as source:
        del query
        source.read(0, 1)  # what is imported meanwhile does not count
        tracemalloc.start()
        try:
            assert sum(len(block) for block in source.blocks(50)) == n_cells
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert most < n_bytes / 4, f"{most} bytes at once, of {n_bytes}"


@pytest.mark.parametrize("kind", ["10x h5", "10x folder"])
def test_ids_of_a_10x_matrix_name_its_genes_where_symbols_do_not(
    kind: str, reference: LocalReference, tmp_path: Path
) -> None:
    query = toy_query(9)[:, :-1].copy()
    expected = reference.map(query)
    query.var_names = [f"unheard of {i}" for i in range(query.n_vars)]
    assert_same_annotations(reference.map(FORMATS[kind](query, tmp_path)), expected, uns=False)


def test_symbols_that_repeat_in_a_10x_matrix_are_summed(reference: LocalReference, tmp_path: Path) -> None:
    query = toy_query(9)
    expected = reference.map(query)
    twice = AnnData(
        sparse.hstack([query.X, sparse.csr_matrix((9, 1), dtype=np.float32)], format="csr"),
        obs=query.obs,
        var=pd.DataFrame(index=[*TOY.genes, TOY.genes[3]]),
        obsm=dict(query.obsm),
    )
    assert_same_annotations(reference.map(write_tenx_h5(twice, tmp_path / "query.h5")), expected, uns=False)
