"""Outputs: the query with what was found out, the same content in every format."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import h5py
import mudata
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.files import listing
from tests.support.mapping import PLUG_IN, map_to
from tests.support.queries import as_json, assert_same_annotations, refusal, toy_mudata, write_anndata, write_mudata
from tests.support.toy_bundle import TOY, toy_query

from totalanvi.serving.errors import OutputError
from totalanvi.serving.mapped import MapOptions
from totalanvi.serving.mapping.local import LocalReference
from totalanvi.serving.mapping.mapping import map_file
from totalanvi.serving.outputs.annotate import OBS_COLUMNS, OBSM_KEYS, UNS_KEY
from totalanvi.serving.outputs.output import OutputPlan
from totalanvi.serving.outputs.result_table import CELLS_KEY
from totalanvi.serving.outputs.writers import open_writer


@pytest.fixture
def mudata_query(tmp_path: Path) -> Path:
    return write_mudata(toy_mudata(n_cells=20, n_rna_only=5, n_protein_only=4), tmp_path / "query.h5mu")


@pytest.mark.parametrize(
    ("field", "names", "parts"),
    [
        ("labels", ["NK/T", "NK"], ["'NK/T' beside 'NK'"]),
        ("proteins", ["CD4", "CD4/x/y"], ["'CD4/x/y' beside 'CD4'"]),
        ("labels", ["B", "/X"], ["'/X'"]),
        ("labels", ["B/", "B"], ["'B/' beside 'B'"]),
        ("labels", ["a//b", "B"], ["'a//b'"]),
        ("labels", ["a/./b", "B"], ["'a/./b'"]),
        ("labels", ["", "B"], ["found ''"]),
        ("labels", ["a\0", "B"], ["'a\\x00'"]),
        ("proteins", ["_index", "CD4"], ["'_index'"]),
    ],
)
def test_names_that_hdf5_would_mix_up_are_refused(
    reference: LocalReference, query: Path, tmp_path: Path, field: str, names: list[str], parts: list[str]
) -> None:
    features = reference.features.model_copy(update={field: names})
    plan = OutputPlan(tmp_path / "out.h5ad", "h5ad")
    act = lambda: open_writer(plan, query, None, features, {}).__enter__()  # noqa: E731
    refusal(OutputError, act, "columns of a table in HDF5", *parts, ".parquet")
    assert listing(tmp_path) == ["query.h5ad"]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_h5ad_is_the_query_with_annotations(reference: LocalReference, query: Path, tmp_path: Path, size: int) -> None:
    map_to(reference, query, tmp_path / "out.h5ad", batch_size=size)
    found = anndata.read_h5ad(tmp_path / "out.h5ad")
    expected = reference.map(anndata.read_h5ad(query), samples=1)
    assert_same_annotations(found, expected)
    np.testing.assert_array_equal(found.X.toarray(), expected.X.toarray())
    # Text that was read may have another type than text that was not.
    pd.testing.assert_frame_equal(found.obs.astype(str), expected.obs.astype(str), check_dtype=False)
    pd.testing.assert_frame_equal(found.var, expected.var)
    pd.testing.assert_frame_equal(found.obsm["protein_expression"], expected.obsm["protein_expression"])


def test_whatever_else_the_query_holds_stays(reference: LocalReference, tmp_path: Path) -> None:
    adata = toy_query(12)
    adata.layers["counts"] = adata.X.copy()
    adata.X = np.log1p(adata.X)
    adata.raw = adata.copy()
    adata.obs["score"] = pd.array([1, None] * 6, dtype="Int64")
    adata.obs["group"] = pd.Categorical(["a", "b", "c"] * 4)
    adata.obsp["distances"] = adata.X @ adata.X.T
    adata.uns["colors"] = {"group": ["red", "blue", "green"]}
    query = write_anndata(adata, tmp_path / "query.h5ad")
    map_to(reference, query, tmp_path / "out.h5ad", layer="counts")
    found, before = anndata.read_h5ad(tmp_path / "out.h5ad"), anndata.read_h5ad(query)
    pd.testing.assert_frame_equal(found.obs[before.obs.columns], before.obs)
    np.testing.assert_array_equal(found.layers["counts"].toarray(), before.layers["counts"].toarray())
    np.testing.assert_array_equal(found.raw.X.toarray(), before.raw.X.toarray())
    np.testing.assert_array_equal(found.obsp["distances"].toarray(), before.obsp["distances"].toarray())
    np.testing.assert_array_equal(found.uns["colors"]["group"], before.uns["colors"]["group"])


def test_a_bare_file_gets_the_groups_that_it_lacks(reference: LocalReference, query: Path, tmp_path: Path) -> None:
    with h5py.File(query, "r+") as stored:
        del stored["obsm"], stored["uns"], stored["layers"]
    map_to(reference, query, tmp_path / "out.h5ad")
    assert_same_annotations(
        anndata.read_h5ad(tmp_path / "out.h5ad"), reference.map(toy_query(23, proteins=False), samples=1)
    )


def test_h5mu_is_the_query_with_annotations(reference: LocalReference, mudata_query: Path, tmp_path: Path) -> None:
    summary = map_to(reference, mudata_query, tmp_path / "out.h5mu", batch_size=6)
    assert (summary.n_cells, summary.n_without_rna) == (20, 4)
    assert any("4 of 20 cells have no RNA" in message for message in summary.messages)
    found = mudata.read_h5mu(tmp_path / "out.h5mu")
    with pytest.warns(UserWarning, match="no RNA"):
        expected = reference.map(mudata_query, samples=1)
    assert_same_annotations(found, expected)
    assert_same_annotations(found["rna"], expected["rna"])
    assert list(found.obs_names) == list(expected.obs_names)
    np.testing.assert_array_equal(found["adt"].X.toarray(), expected["adt"].X.toarray())


def test_h5ad_of_a_mudata_is_its_rna(reference: LocalReference, mudata_query: Path, tmp_path: Path) -> None:
    map_to(reference, mudata_query, tmp_path / "out.h5ad", batch_size=6)
    found = anndata.read_h5ad(tmp_path / "out.h5ad")
    with pytest.warns(UserWarning, match="no RNA"):
        expected = reference.map(mudata_query, samples=1)["rna"]
    assert_same_annotations(found, expected)
    assert list(found.var_names) == TOY.genes
    np.testing.assert_array_equal(found.X.toarray(), expected.X.toarray())


@pytest.mark.parametrize("impute", [True, False])
@pytest.mark.parametrize("name", ["out.parquet", "out"])
def test_tables_have_one_row_per_cell(
    reference: LocalReference, query: Path, tmp_path: Path, impute: bool, name: str
) -> None:
    map_to(reference, query, tmp_path / name, options=MapOptions(impute=impute, samples=1), batch_size=9)
    table = pq.read_table(tmp_path / name)
    expected = reference.map(query, impute=impute, samples=1)
    kinds = ("protein", "protein_low", "protein_high", "protein_foreground") if impute else ()
    columns = ["cell_id", *OBS_COLUMNS]
    columns += [f"{kind}:{label}" for kind in ("probability", "set") for label in TOY.labels]
    columns += ["map:x", "map:y", *(f"{kind}:{protein}" for kind in kinds for protein in TOY.proteins)]
    assert table.column_names == columns
    frame = table.to_pandas()
    assert frame["cell_id"].tolist() == list(expected.obs_names)
    for column in ("totalanvi_label", "totalanvi_guess", "totalanvi_certain", "totalanvi_set"):
        assert frame[column].tolist() == expected.obs[column].tolist()
    for column in ("totalanvi_confidence", "totalanvi_novelty"):
        np.testing.assert_array_equal(frame[column], expected.obs[column])
    for label in TOY.labels:
        np.testing.assert_array_equal(frame[f"probability:{label}"], expected.obsm["totalanvi_probabilities"][label])
        np.testing.assert_array_equal(frame[f"set:{label}"], expected.obsm["totalanvi_set"][label])
    np.testing.assert_array_equal(frame[["map:x", "map:y"]], expected.obsm["X_totalanvi_map"])
    for kind in kinds:
        for protein in TOY.proteins:
            np.testing.assert_array_equal(frame[f"{kind}:{protein}"], expected.obsm[f"totalanvi_{kind}"][protein])


def test_a_folder_gets_one_part_per_block_all_of_one_schema(
    reference: LocalReference, query: Path, mudata_query: Path, tmp_path: Path
) -> None:
    map_to(reference, query, f"{tmp_path / 'parts'}/", batch_size=9)
    assert listing(tmp_path / "parts") == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    parts = [pq.read_table(tmp_path / "parts" / name) for name in listing(tmp_path / "parts")]
    assert [part.num_rows for part in parts] == [9, 9, 5]
    map_to(reference, mudata_query, tmp_path / "other.parquet", batch_size=1)
    schemas = [part.schema for part in parts] + [pq.read_schema(tmp_path / "other.parquet")]
    assert all(schema.equals(schemas[0]) for schema in schemas)
    assert schemas[0].field("totalanvi_label").type == pa.dictionary(pa.int32(), pa.string())
    assert schemas[0].field("protein:CD4").type == pa.float32()
    uns = json.loads(schemas[0].metadata[UNS_KEY.encode()])
    expected = reference.map(query, samples=1).uns[UNS_KEY]
    assert uns["protein_reliability"]["protein"] == TOY.proteins
    assert uns["protein_reliability"]["pearson"] == list(expected["protein_reliability"]["pearson"])
    cells = [
        json.loads(pq.read_metadata(file).metadata[CELLS_KEY.encode()])
        for file in sorted((tmp_path / "parts").iterdir())
    ]
    assert cells == [{"mapped": n_cells, "with_proteins": n_cells} for n_cells in (9, 9, 5)]
    assert expected.pop("cells") == {"mapped": 23, "with_proteins": 23}
    assert as_json(uns) == as_json(expected)


def test_cells_without_rna_have_nulls_in_tables(reference: LocalReference, mudata_query: Path, tmp_path: Path) -> None:
    map_to(reference, mudata_query, tmp_path / "out.parquet", batch_size=3)
    frame = pq.read_table(tmp_path / "out.parquet").to_pandas().set_index("cell_id")
    mdata = mudata.read_h5mu(mudata_query)
    assert list(frame.index) == list(mdata.obs_names)
    without = ~frame.index.isin(mdata["rna"].obs_names)
    assert frame[without].isna().all(axis=None)
    # The intervals of one protein are not known.
    known = frame[~without].drop(columns=["protein_low:IgG1", "protein_high:IgG1"])
    assert known.notna().all(axis=None)


def test_what_an_earlier_run_left_is_replaced_or_removed(
    reference: LocalReference, query: Path, tmp_path: Path
) -> None:
    map_to(reference, query, tmp_path / "first.h5ad")
    map_to(reference, tmp_path / "first.h5ad", tmp_path / "second.h5ad", options=MapOptions(impute=False))
    first, second = (anndata.read_h5ad(tmp_path / name) for name in ("first.h5ad", "second.h5ad"))
    assert set(OBSM_KEYS) - set(second.obsm) == {
        f"totalanvi_{kind}" for kind in ("protein", "protein_low", "protein_high", "protein_foreground")
    }
    pd.testing.assert_frame_equal(first.obs, second.obs)


def test_labels_and_proteins_may_have_slashes_in_their_names(
    reference: LocalReference, query: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    class Renamed:
        features = reference.features.model_copy(
            update={"labels": ("T/NK", "a b", "é", "x"), "proteins": ("HLA-DR/DP", *TOY.proteins[1:])}
        )
        in_flight = 1
        info = reference.info
        score = reference.score

    map_file(Renamed, query, str(tmp_path / "out.h5ad"), proteins="none", options=PLUG_IN)
    found = anndata.read_h5ad(tmp_path / "out.h5ad")
    assert list(found.obsm["totalanvi_probabilities"].columns) == ["T/NK", "a b", "é", "x"]
    assert found.obsm["totalanvi_protein"].columns[0] == "HLA-DR/DP"
    assert not [warning for warning in recwarn if "slash" in str(warning.message)]


def test_the_summary_says_what_became_of_the_query(reference: LocalReference, query: Path, tmp_path: Path) -> None:
    summary = map_to(reference, query, tmp_path / "out.parquet")
    labels = reference.map(query, impute=False).obs["totalanvi_label"].value_counts()
    assert summary.labels == {label: n_cells for label, n_cells in labels.items() if n_cells}
    assert list(summary.labels.values()) == sorted(summary.labels.values(), reverse=True)
    assert (summary.n_cells, summary.n_without_rna, summary.messages) == (23, 0, ())
    assert summary.alignment.genes.matched == len(TOY.genes)
    assert summary.output == tmp_path / "out.parquet"
    assert summary.seconds > 0
