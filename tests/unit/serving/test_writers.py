"""Outputs: judged before work, written whole or not at all, with the same content in every format."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anndata
import h5py
import mudata
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.queries import (
    as_json,
    assert_same_annotations,
    one_count,
    refusal,
    toy_mudata,
    write_anndata,
    write_mudata,
)
from tests.support.toy_bundle import TOY, toy_query, write_toy_bundle

from totalanvi.serving.annotate import OBS_COLUMNS, OBSM_KEYS, UNS_KEY
from totalanvi.serving.errors import AlignmentError, CountsError, OutputError, QueryError
from totalanvi.serving.map_summary import MapSummary
from totalanvi.serving.mapped import MapOptions, MappedCells
from totalanvi.serving.mapper import LocalReference
from totalanvi.serving.mapping import map_file
from totalanvi.serving.output import plan_output, staged

PLUG_IN = MapOptions(samples=1)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> LocalReference:
    return LocalReference(write_toy_bundle(tmp_path_factory.mktemp("writers") / "toy"), provider="cpu")


@pytest.fixture
def query(tmp_path: Path) -> Path:
    return write_anndata(toy_query(23), tmp_path / "query.h5ad")


@pytest.fixture
def mudata_query(tmp_path: Path) -> Path:
    return write_mudata(toy_mudata(n_cells=20, n_rna_only=5, n_protein_only=4), tmp_path / "query.h5mu")


def run(reference: LocalReference, query: Path, output: Path | str, **arguments: Any) -> MapSummary:
    return map_file(lambda: reference, query, str(output), **({"options": PLUG_IN} | arguments))


def listing(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# What is written


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_h5ad_is_the_query_with_annotations(reference: LocalReference, query: Path, tmp_path: Path, size: int) -> None:
    run(reference, query, tmp_path / "out.h5ad", batch_size=size)
    found = anndata.read_h5ad(tmp_path / "out.h5ad")
    expected = reference.map(anndata.read_h5ad(query), samples=1)
    assert_same_annotations(found, expected)
    np.testing.assert_array_equal(found.X.toarray(), expected.X.toarray())
    pd.testing.assert_frame_equal(found.obs, expected.obs)
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
    run(reference, query, tmp_path / "out.h5ad", layer="counts")
    found, before = anndata.read_h5ad(tmp_path / "out.h5ad"), anndata.read_h5ad(query)
    pd.testing.assert_frame_equal(found.obs[before.obs.columns], before.obs)
    np.testing.assert_array_equal(found.layers["counts"].toarray(), before.layers["counts"].toarray())
    np.testing.assert_array_equal(found.raw.X.toarray(), before.raw.X.toarray())
    np.testing.assert_array_equal(found.obsp["distances"].toarray(), before.obsp["distances"].toarray())
    np.testing.assert_array_equal(found.uns["colors"]["group"], before.uns["colors"]["group"])


def test_a_bare_file_gets_the_groups_that_it_lacks(reference: LocalReference, query: Path, tmp_path: Path) -> None:
    with h5py.File(query, "r+") as stored:
        del stored["obsm"], stored["uns"], stored["layers"]
    run(reference, query, tmp_path / "out.h5ad")
    assert_same_annotations(
        anndata.read_h5ad(tmp_path / "out.h5ad"), reference.map(toy_query(23, proteins=False), samples=1)
    )


def test_h5mu_is_the_query_with_annotations(reference: LocalReference, mudata_query: Path, tmp_path: Path) -> None:
    summary = run(reference, mudata_query, tmp_path / "out.h5mu", batch_size=6)
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
    run(reference, mudata_query, tmp_path / "out.h5ad", batch_size=6)
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
    run(reference, query, tmp_path / name, options=MapOptions(impute=impute, samples=1), batch_size=9)
    table = pq.read_table(tmp_path / name)
    expected = reference.map(query, impute=impute, samples=1)
    kinds = ("protein", "protein_low", "protein_high", "protein_foreground") if impute else ()
    columns = ["cell_id", *OBS_COLUMNS]
    columns += [f"{kind}:{label}" for kind in ("probability", "set") for label in TOY.labels]
    columns += [f"{kind}:{protein}" for kind in kinds for protein in TOY.proteins]
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
    for kind in kinds:
        for protein in TOY.proteins:
            np.testing.assert_array_equal(frame[f"{kind}:{protein}"], expected.obsm[f"totalanvi_{kind}"][protein])


def test_a_folder_gets_one_part_per_block_all_of_one_schema(
    reference: LocalReference, query: Path, mudata_query: Path, tmp_path: Path
) -> None:
    run(reference, query, f"{tmp_path / 'parts'}/", batch_size=9)
    assert listing(tmp_path / "parts") == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    parts = [pq.read_table(tmp_path / "parts" / name) for name in listing(tmp_path / "parts")]
    assert [part.num_rows for part in parts] == [9, 9, 5]
    run(reference, mudata_query, tmp_path / "other.parquet", batch_size=1)
    schemas = [part.schema for part in parts] + [pq.read_schema(tmp_path / "other.parquet")]
    assert all(schema.equals(schemas[0]) for schema in schemas)
    assert schemas[0].field("totalanvi_label").type == pa.dictionary(pa.int32(), pa.string())
    assert schemas[0].field("protein:CD4").type == pa.float32()
    uns = json.loads(schemas[0].metadata[UNS_KEY.encode()])
    expected = reference.map(query, samples=1).uns[UNS_KEY]
    assert uns["protein_reliability"]["protein"] == TOY.proteins
    assert uns["protein_reliability"]["pearson"] == list(expected["protein_reliability"]["pearson"])
    assert as_json(uns) == as_json(expected)


def test_cells_without_rna_have_nulls_in_tables(reference: LocalReference, mudata_query: Path, tmp_path: Path) -> None:
    run(reference, mudata_query, tmp_path / "out.parquet", batch_size=3)
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
    run(reference, query, tmp_path / "first.h5ad")
    run(reference, tmp_path / "first.h5ad", tmp_path / "second.h5ad", options=MapOptions(impute=False))
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
    summary = run(reference, query, tmp_path / "out.parquet")
    labels = reference.map(query, impute=False).obs["totalanvi_label"].value_counts()
    assert summary.labels == {label: n_cells for label, n_cells in labels.items() if n_cells}
    assert list(summary.labels.values()) == sorted(summary.labels.values(), reverse=True)
    assert (summary.n_cells, summary.n_without_rna, summary.messages) == (23, 0, ())
    assert summary.alignment.genes.matched == len(TOY.genes)
    assert summary.output == tmp_path / "out.parquet"
    assert summary.seconds > 0


# What is refused, before any work


def no_reference() -> Any:
    raise AssertionError("the reference was opened before output and query were judged")


@pytest.mark.parametrize("name", ["out.csv", "out.h5", "out.h5ad.gz", "out.zarr"])
def test_an_unknown_suffix_is_refused(query: Path, tmp_path: Path, name: str) -> None:
    act = lambda: map_file(no_reference, query, str(tmp_path / name))  # noqa: E731
    refusal(OutputError, act, ".h5ad, .h5mu or .parquet", name, "Name one of these")


@pytest.mark.parametrize("name", ["out.h5ad", "out.parquet", "out/"])
def test_an_output_that_exists_is_refused_before_the_query_is_looked_at(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.mkdir() if name.endswith("/") else path.write_text("mine")
    act = lambda: map_file(no_reference, tmp_path / "missing.h5ad", f"{tmp_path}/{name}")  # noqa: E731
    refusal(OutputError, act, "does not exist yet", name, "--overwrite")


def test_an_output_that_is_the_query_is_refused(query: Path, tmp_path: Path) -> None:
    before = query.read_bytes()
    (tmp_path / "link.h5ad").symlink_to(query)
    for output in (query, tmp_path / "link.h5ad"):
        act = lambda output=output: map_file(no_reference, query, str(output), overwrite=True)  # noqa: E731
        refusal(OutputError, act, "other than the query", "Choose another")
    assert query.read_bytes() == before


def test_an_output_in_no_folder_is_refused(query: Path, tmp_path: Path) -> None:
    act = lambda: map_file(no_reference, query, str(tmp_path / "none" / "out.h5ad"))  # noqa: E731
    refusal(OutputError, act, "a folder for the output", "none", "Create it")


def test_a_folder_where_a_file_is_wanted_is_refused_and_the_other_way_round(query: Path, tmp_path: Path) -> None:
    (tmp_path / "out.h5ad").mkdir()
    act = lambda: map_file(no_reference, query, str(tmp_path / "out.h5ad"), overwrite=True)  # noqa: E731
    refusal(OutputError, act, "Expected a file", "found a folder")
    (tmp_path / "out").write_text("mine")
    act = lambda: map_file(no_reference, query, f"{tmp_path}/out/", overwrite=True)  # noqa: E731
    refusal(OutputError, act, "Expected a folder", "found a file")


def test_a_folder_with_other_files_is_never_replaced(query: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("mine")
    act = lambda: map_file(no_reference, query, str(tmp_path / "home"), overwrite=True)  # noqa: E731
    refusal(OutputError, act, "nothing but the parts", "'thesis.txt'", "Choose another folder")
    assert listing(tmp_path / "home") == ["thesis.txt"]


def test_an_anndata_is_not_written_as_mudata(query: Path, tmp_path: Path) -> None:
    act = lambda: map_file(no_reference, query, str(tmp_path / "out.h5mu"))  # noqa: E731
    refusal(OutputError, act, "a MuData query", "an AnnData", "out.h5ad")


def test_a_bad_query_is_refused_before_the_reference_is_opened(tmp_path: Path) -> None:
    query = write_anndata(toy_query(4), tmp_path / "query.h5ad")
    act = lambda: map_file(no_reference, query, str(tmp_path / "out.h5ad"), layer="none")  # noqa: E731
    refusal(QueryError, act, "'none'")


# Whole or not at all


def test_overwrite_replaces_a_file_and_a_folder(reference: LocalReference, query: Path, tmp_path: Path) -> None:
    for name in ("out.h5ad", "out.parquet"):
        (tmp_path / name).write_text("old")
        run(reference, query, tmp_path / name, overwrite=True)
        assert (tmp_path / name).stat().st_size > 1000
    run(reference, query, tmp_path / "parts", batch_size=4)
    run(reference, query, tmp_path / "parts", batch_size=20, overwrite=True)
    assert listing(tmp_path / "parts") == ["part-00000.parquet", "part-00001.parquet"]
    assert listing(tmp_path) == ["out.h5ad", "out.parquet", "parts", "query.h5ad"]


@pytest.mark.parametrize("name", ["out.h5ad", "out.parquet", "out"])
@pytest.mark.parametrize("exists", [True, False])
def test_bad_counts_in_a_late_block_leave_everything_as_it_was(
    reference: LocalReference, tmp_path: Path, name: str, exists: bool
) -> None:
    good = write_anndata(toy_query(8), tmp_path / "good.h5ad")
    bad = write_anndata(one_count(0.5), tmp_path / "bad.h5ad")
    if exists:
        run(reference, good, tmp_path / name)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    act = lambda: run(reference, bad, tmp_path / name, batch_size=1, overwrite=True)  # noqa: E731
    refusal(CountsError, act, "0.5")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_query_of_other_genes_leaves_nothing(reference: LocalReference, tmp_path: Path) -> None:
    adata = toy_query(8)
    adata.var = pd.DataFrame(index=[f"mt-{name}" for name in adata.var_names])
    query = write_anndata(adata, tmp_path / "query.h5ad")
    refusal(AlignmentError, lambda: run(reference, query, tmp_path / "out.parquet"), "no gene in common")
    assert listing(tmp_path) == ["query.h5ad"]


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    def act() -> None:
        with staged(plan_output(str(tmp_path / "out"), tmp_path / "query")) as path:
            path.mkdir()
            (path / "part-00000.parquet").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        act()
    assert listing(tmp_path) == []


@pytest.mark.parametrize("name", ["out", "replaced"])
def test_a_folder_is_replaced_whatever_its_name(tmp_path: Path, name: str) -> None:
    for content in ("first", "second"):
        with staged(plan_output(f"{tmp_path / name}/", tmp_path / "query", overwrite=True)) as path:
            path.mkdir()
            (path / "part-00000.parquet").write_text(content)
    assert (tmp_path / name / "part-00000.parquet").read_text() == "second"
    assert listing(tmp_path) == [name]


def test_a_reference_that_answers_for_fewer_cells_is_an_error(
    reference: LocalReference, query: Path, tmp_path: Path
) -> None:
    class Partial:
        features = reference.features
        in_flight = 2
        info = reference.info

        def score(self, cells: Any, options: MapOptions) -> MappedCells:
            return reference.score(cells, options).rows(slice(1, None))

    refusal(QueryError, lambda: map_file(Partial, query, str(tmp_path / "out.parquet")), "all 23 cells", "found 22")
    assert listing(tmp_path) == ["query.h5ad"]


def test_several_blocks_in_flight_come_out_in_order(reference: LocalReference, query: Path, tmp_path: Path) -> None:
    class Remote:
        features = reference.features
        in_flight = 4
        info = reference.info
        score = reference.score

    map_file(Remote, query, str(tmp_path / "out.parquet"), options=PLUG_IN, batch_size=2)
    run(reference, query, tmp_path / "one.parquet")
    assert pq.read_table(tmp_path / "out.parquet").equals(pq.read_table(tmp_path / "one.parquet"))


@contextmanager
def file_size_limit(n_bytes: int) -> Iterator[None]:
    """Make writing fail as it does when there is no room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("name", "share"), [("out.h5ad", 0.5), ("out.h5ad", 1.1), ("out.parquet", 0.05), ("parts", 0.05)]
)
def test_no_room_is_an_error_that_names_the_output(
    reference: LocalReference, query: Path, tmp_path: Path, name: str, share: float
) -> None:
    limit = int(share * query.stat().st_size)

    def act() -> None:
        with file_size_limit(limit):
            run(reference, query, tmp_path / name)

    refusal(OutputError, act, name, "this fails", "Make room")
    assert listing(tmp_path) == ["query.h5ad"]


def test_a_folder_that_cannot_be_written_to_is_refused(reference: LocalReference, query: Path) -> None:
    refusal(OutputError, lambda: run(reference, query, "/proc/out.parquet"), "'/proc'", "Choose another place")
