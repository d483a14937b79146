"""Queries in memory: what is read from where, and what is refused."""

from __future__ import annotations

from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import zarr
from anndata import AnnData
from scipy import sparse
from tests.support.queries import make_mudata, one_count, protein_modality, refusal, rna_modality, toy_mudata
from tests.support.toy_bundle import TOY, toy_query

from totalanvi.serving.errors import CountsError, QueryError
from totalanvi.serving.queries.query import Query
from totalanvi.serving.queries.readers import QueryData, open_query


def read(data: QueryData, proteins: str | None = None, layer: str | None = None) -> Query:
    with open_query(data, proteins, layer) as source:
        return source.read(0, len(source))


@pytest.mark.parametrize(
    "store",
    [
        sparse.csr_matrix,
        sparse.csc_matrix,
        sparse.csr_array,
        np.asarray,
        lambda x: sparse.csr_matrix(x.astype(np.int64)),
        lambda x: x.astype(np.uint16),
        lambda x: x.astype(np.float16),
        lambda x: x.astype(">i4"),
    ],
    ids=["csr", "csc", "csr_array", "dense", "int64", "uint16", "float16", "another byte order"],
)
@pytest.mark.parametrize("layer", [None, "counts"])
def test_rna_is_the_same_however_it_is_stored(store: Any, layer: str | None) -> None:
    query = toy_query(9)
    counts = query.X.toarray()
    if layer:
        query.layers[layer] = store(counts)
        query.X = np.log1p(counts)
    else:
        query.X = store(counts)
    read_back = read(query, layer=layer)
    assert isinstance(read_back.rna, sparse.csr_matrix)
    assert read_back.rna.dtype == np.float32
    np.testing.assert_array_equal(read_back.rna.toarray(), counts)
    assert list(read_back.cell_ids) == list(query.obs_names)
    assert list(read_back.gene_names) == TOY.genes
    assert read_back.rna_measured.all()


@pytest.mark.parametrize("size", [1, 4, 11, 100])
def test_blocks_join_to_the_whole(size: int) -> None:
    query = toy_query(11)
    with open_query(query) as source:
        blocks = list(source.blocks(size))
    assert [len(block) for block in blocks] == [len(chunk) for chunk in np.split(np.arange(11), range(size, 11, size))]
    np.testing.assert_array_equal(sparse.vstack([block.rna for block in blocks]).toarray(), query.X.toarray())
    proteins = np.concatenate([block.proteins for block in blocks])
    np.testing.assert_array_equal(proteins, query.obsm["protein_expression"])


def test_reading_leaves_the_query_as_it_is() -> None:
    counts = sparse.csr_matrix(
        (np.array([1, 2, 3, 0], dtype=np.float32), np.array([2, 2, 0, 1]), np.array([0, 2, 4])), shape=(2, 3)
    )
    query = AnnData(counts)
    block = read(query)
    np.testing.assert_array_equal(block.rna.toarray(), [[0, 0, 3], [3, 0, 0]])
    assert block.rna.nnz == 2
    np.testing.assert_array_equal(query.X.data, [1, 2, 3, 0])
    np.testing.assert_array_equal(query.X.indices, [2, 2, 0, 1])


def test_a_view_and_a_backed_query_are_read(tmp_path: Any) -> None:
    query = toy_query(10)
    np.testing.assert_array_equal(read(query[::2]).rna.toarray(), query.X[::2].toarray())
    query.write_h5ad(tmp_path / "query.h5ad")
    backed = anndata.read_h5ad(tmp_path / "query.h5ad", backed="r")
    np.testing.assert_array_equal(read(backed).rna.toarray(), query.X.toarray())
    backed.file.close()


def test_rows_takes_a_part() -> None:
    block = read(toy_query(6))
    part = block.rows(np.array([4, 1]))
    assert list(part.cell_ids) == ["cell4", "cell1"]
    np.testing.assert_array_equal(part.rna.toarray(), block.rna.toarray()[[4, 1]])
    np.testing.assert_array_equal(part.proteins, block.proteins[[4, 1]])


# Proteins of an AnnData


def test_proteins_are_found_by_the_usual_key_or_named_or_left_out() -> None:
    query = toy_query(5)
    found = read(query)
    assert list(found.protein_names) == TOY.proteins
    assert found.protein_measured.all()
    query.obsm["adt"] = query.obsm["protein_expression"][["CD4", "CD19"]]
    assert read(query, proteins="adt").protein_names == ("CD4", "CD19")
    none = read(query, proteins="none")
    assert none.protein_names == ()
    assert none.proteins.shape == (5, 0)
    assert not none.protein_measured.any()
    assert read(toy_query(5, proteins=False)).protein_names == ()


def test_whether_proteins_were_measured_is_decided_cell_by_cell() -> None:
    query = toy_query(6)
    frame = query.obsm["protein_expression"].astype(np.float64)
    frame.iloc[1] = 0
    frame.iloc[4] = np.nan
    query.obsm["protein_expression"] = frame
    block = read(query)
    np.testing.assert_array_equal(block.protein_measured, [True, False, True, True, False, True])
    assert not block.proteins[[1, 4]].any()
    np.testing.assert_array_equal(block.proteins[2], frame.iloc[2])


def test_nullable_integers_are_numbers() -> None:
    query = toy_query(4)
    frame = query.obsm["protein_expression"].astype("Int64")
    frame.iloc[2] = pd.NA
    query.obsm["protein_expression"] = frame
    block = read(query)
    np.testing.assert_array_equal(block.protein_measured, [True, True, False, True])


def test_some_proteins_missing_in_a_cell_are_refused() -> None:
    query = toy_query(6)
    frame = query.obsm["protein_expression"].astype(np.float64)
    frame.iloc[2, 1] = np.nan
    query.obsm["protein_expression"] = frame
    refusal(CountsError, lambda: read(query), "'cell2'", "['CD4']", "obsm 'protein_expression'", "Drop those proteins")


@pytest.mark.parametrize("value", [-1.0, 0.5, np.inf])
def test_proteins_that_are_no_counts_are_refused(value: float) -> None:
    query = toy_query(6)
    frame = query.obsm["protein_expression"].astype(np.float64)
    frame.iloc[5, 3] = value
    query.obsm["protein_expression"] = frame
    refusal(CountsError, lambda: read(query), "obsm 'protein_expression'", f"{value:.6g}", "'cell5'", "'CD56'", "none")


def test_a_protein_key_that_is_not_there_is_refused() -> None:
    query = toy_query(4)
    query.obsm["X_pca"] = np.zeros((4, 2))
    refusal(
        QueryError, lambda: read(query, proteins="adt"), "obsm 'adt'", "'protein_expression', 'X_pca'", "--proteins"
    )
    bare = toy_query(4, proteins=False)
    refusal(QueryError, lambda: read(bare, proteins="adt"), "nothing in obsm", "'none'")


def test_proteins_without_names_are_refused() -> None:
    query = toy_query(4)
    query.obsm["protein_expression"] = query.obsm["protein_expression"].to_numpy()
    refusal(QueryError, lambda: read(query), "DataFrame", "ndarray", "pandas.DataFrame(values")


def test_proteins_that_are_text_are_refused() -> None:
    query = toy_query(4)
    query.obsm["protein_expression"] = query.obsm["protein_expression"].assign(note="text")
    refusal(QueryError, lambda: read(query), "Expected numbers in obsm 'protein_expression'", "counts only")


def test_complex_proteins_are_refused() -> None:
    query = toy_query(4)
    query.obsm["protein_expression"] = query.obsm["protein_expression"] + 1j
    refusal(QueryError, lambda: read(query), "Expected numbers in obsm 'protein_expression'", "complex numbers")


# Raw counts


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (1.386, "not whole"),
        (-2.0, "negative"),
        (np.nan, "not a number"),
        (np.inf, "infinite"),
        (-np.inf, "infinite"),
        (1e300, "more than can be counted"),
    ],
)
def test_values_that_are_no_raw_counts_are_refused_with_their_place(value: float, fault: str) -> None:
    query = one_count(value)
    query.layers["spliced"] = query.X.copy()
    parts = (f"{value:.6g}", fault, "'cell3'", "'GENE007'", "--layer", "'spliced'")
    refusal(CountsError, lambda: read(query), " in X;", *parts)
    refusal(CountsError, lambda: read(query, layer="spliced"), "layer 'spliced'", *parts)


def test_the_cure_says_that_there_is_no_layer() -> None:
    refusal(CountsError, lambda: read(one_count(0.5)), "Store the raw counts in X, or in a layer", "has no layers")


def test_a_negative_integer_is_refused() -> None:
    refusal(CountsError, lambda: read(one_count(-3, np.int32)), "-3", "negative")


def test_values_that_are_no_numbers_are_refused() -> None:
    query = toy_query(3, proteins=False)
    query.X = query.X.toarray().astype(np.complex64)
    refusal(CountsError, lambda: read(query), "complex64")


@pytest.mark.parametrize("place", [1000, -1000])
@pytest.mark.parametrize("layout", ["csr", "csc"])
def test_a_damaged_sparse_matrix_is_refused(place: int, layout: str) -> None:
    query = toy_query(5, proteins=False)
    query.X = query.X.asformat(layout)
    query.X.indices[7] = place
    refusal(QueryError, lambda: read(query), "valid sparse matrix in X", "damaged", "Write the query again")


# Names and size


def test_repeated_cell_names_are_refused() -> None:
    query = toy_query(4)
    query.obs_names = ["a", "b", "a", "c"]
    query.obsm["protein_expression"].index = query.obs_names
    refusal(QueryError, lambda: read(query), "'a'", "1 repeated", "obs_names_make_unique")


def test_repeated_feature_names_are_read_as_they_are() -> None:
    query = toy_query(4)
    query.var_names = ["GENE001", *TOY.genes[1:]]
    query.obsm["protein_expression"].columns = ["CD4", *TOY.proteins[1:]]
    block = read(query)
    assert block.gene_names[:2] == ("GENE001", "GENE001")
    assert block.protein_names[:2] == ("CD4", "CD4")
    np.testing.assert_array_equal(block.rna.toarray(), query.X.toarray())


def test_an_empty_query_is_refused() -> None:
    refusal(QueryError, lambda: read(toy_query(4)[:0].copy()), "at least one cell", "0 cells", "filtered")
    refusal(QueryError, lambda: read(toy_query(4)[:, :0].copy()), "one gene", "0 genes")


def test_a_layer_that_is_not_there_is_refused() -> None:
    query = toy_query(4)
    refusal(QueryError, lambda: read(query, layer="counts"), "'counts'", "no layers", "--layer")
    query.layers["raw"] = query.X
    query.layers["scaled"] = query.X
    refusal(QueryError, lambda: read(query, layer="counts"), "found 'raw', 'scaled'")


def test_a_query_without_x_needs_a_layer() -> None:
    query = toy_query(4, proteins=False)
    counts = query.X
    query.X = None
    refusal(QueryError, lambda: read(query), "no X", "no layers", "--layer")
    query.layers["counts"] = counts
    for layer in ("counts", None):
        np.testing.assert_array_equal(read(query, layer=layer).rna.toarray(), counts.toarray())


def test_something_else_is_refused() -> None:
    refusal(QueryError, lambda: read(np.zeros((2, 2))), "AnnData, a MuData or the path", "ndarray", "anndata.AnnData(")


def test_a_matrix_that_is_elsewhere_is_refused() -> None:
    query = toy_query(4, proteins=False)
    query.X = zarr.array(query.X.toarray())
    refusal(QueryError, lambda: read(query), "NumPy array or a scipy sparse matrix", "found Array", "Convert it")


# MuData


def test_cells_of_a_mudata_lack_rna_or_proteins_one_by_one() -> None:
    mdata = toy_mudata(n_cells=20, n_rna_only=5, n_protein_only=3)
    with open_query(mdata) as source:
        assert source.kind == "mudata"
        assert source.rna_modality == "rna"
        assert source.n_without_rna == 3
        blocks = list(source.blocks(6))
    rna = pd.DataFrame(
        np.concatenate([block.rna.toarray() for block in blocks]), index=np.concatenate([b.cell_ids for b in blocks])
    )
    truth = toy_query(20)
    assert list(rna.index) == list(mdata.obs_names)
    for name in mdata.obs_names:
        expected = truth[name].X.toarray()[0] if name in mdata["rna"].obs_names else 0
        np.testing.assert_array_equal(rna.loc[name], expected)
    measured = dict(zip(rna.index, np.concatenate([block.rna_measured for block in blocks]), strict=True))
    assert measured == {name: name in mdata["rna"].obs_names for name in mdata.obs_names}
    for block in blocks:
        for row, name in enumerate(block.cell_ids):
            assert block.protein_measured[row] == (name in mdata["adt"].obs_names)
            expected = truth.obsm["protein_expression"].loc[name] if block.protein_measured[row] else 0
            np.testing.assert_array_equal(block.proteins[row], expected)


def test_modalities_may_have_their_cells_in_another_order() -> None:
    query = toy_query(12)
    order = np.random.default_rng(0).permutation(12)
    mdata = make_mudata(adt=protein_modality(query)[order].copy(), rna=rna_modality(query))
    with open_query(mdata) as source:
        for block in source.blocks(5):
            np.testing.assert_array_equal(block.rna.toarray(), query[block.cell_ids].X.toarray())
            np.testing.assert_array_equal(block.proteins, query.obsm["protein_expression"].loc[block.cell_ids])


@pytest.mark.parametrize("rna", ["rna", "GEX", "counts"])
@pytest.mark.parametrize("protein", ["prot", "protein", "adt", "Ab"])
def test_modalities_are_found_by_their_usual_names(rna: str, protein: str) -> None:
    query = toy_query(4)
    block = read(make_mudata(**{protein: protein_modality(query), rna: rna_modality(query)}))
    assert list(block.gene_names) == TOY.genes
    assert list(block.protein_names) == TOY.proteins


def test_a_protein_modality_can_be_named_or_left_out() -> None:
    query = toy_query(4)
    mdata = make_mudata(rna=rna_modality(query), surface=protein_modality(query))
    assert read(mdata).protein_names == ()
    assert list(read(mdata, proteins="surface").protein_names) == TOY.proteins
    mdata = make_mudata(only=rna_modality(query), adt=protein_modality(query))
    without = read(mdata, proteins="none")
    assert without.protein_names == ()
    assert list(without.gene_names) == TOY.genes


def test_modalities_that_are_not_there_are_refused() -> None:
    query = toy_query(4)
    mdata = make_mudata(rna=rna_modality(query), adt=protein_modality(query))
    refusal(QueryError, lambda: read(mdata, proteins="prot"), "modality 'prot'", "'rna', 'adt'", "'none'")
    unclear = make_mudata(a=rna_modality(query), b=protein_modality(query))
    refusal(QueryError, lambda: read(unclear), "RNA modality named 'rna'", "'a', 'b'", "Rename")
    named_rna = make_mudata(rna=rna_modality(query), adt=protein_modality(query), atac=rna_modality(query))
    refusal(QueryError, lambda: read(named_rna, proteins="rna"), "RNA modality", "Rename")


def test_bad_counts_of_a_modality_name_the_right_cell() -> None:
    query = toy_query(6)
    order = np.array([5, 4, 3, 2, 1, 0])
    rna = rna_modality(query)[order].copy()
    rna.X = sparse.csr_matrix(rna.X.toarray().astype(np.float64))
    rna.X[1, 0] = 0.25
    mdata = make_mudata(adt=protein_modality(query), rna=rna)
    refusal(CountsError, lambda: read(mdata), "0.25", "'cell4'", "'GENE000'")
    adt = protein_modality(query)
    adt.X = adt.X.astype(np.float64)
    adt.X[2, 1] = -4
    mdata = make_mudata(rna=rna_modality(query), adt=adt)
    refusal(CountsError, lambda: read(mdata), "modality 'adt'", "-4", "'cell2'", "'CD4'")
