"""Outputs: judged before work, written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from tests.support.files import contents, file_size_limit, listing
from tests.support.mapping import PLUG_IN, map_to
from tests.support.queries import one_count, refusal, write_anndata
from tests.support.stored_queries import FORMATS
from tests.support.toy_bundle import toy_query

from totalanvi.serving.errors import AlignmentError, CountsError, OutputError, QueryError
from totalanvi.serving.mapped import MapOptions, MappedCells
from totalanvi.serving.mapping.local import LocalReference
from totalanvi.serving.mapping.mapping import map_file
from totalanvi.serving.outputs import annotated_copy
from totalanvi.serving.outputs.output import plan_output, staged

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


def test_an_output_in_a_zarr_query_is_refused(tmp_path: Path) -> None:
    query = tmp_path / "query.zarr"
    toy_query(4).write_zarr(query)
    before = contents(query)
    for output in (query / "out.h5ad", query / "obs" / ".." / "out"):
        act = lambda output=output: map_file(no_reference, query, str(output), overwrite=True)  # noqa: E731
        refusal(OutputError, act, "outside of it", output.name, "Choose another")
    assert contents(query) == before


def test_a_report_replaces_neither_query_nor_output(query: Path, tmp_path: Path) -> None:
    (tmp_path / "query.json").write_bytes(query.read_bytes())
    (tmp_path / "out").mkdir()
    around = tmp_path / "out" / ".."
    for report in (around / "query.json", tmp_path / "out" / "report.json", around / "parts.json"):
        output = f"{tmp_path}/parts.json/" if report.name == "parts.json" else f"{tmp_path}/out/"
        act = lambda report=report, output=output: map_file(  # noqa: E731
            no_reference, tmp_path / "query.json", output, overwrite=True, report=report
        )
        refusal(OutputError, act, "other than query and output", report.name, "Choose another")
    assert (tmp_path / "query.json").read_bytes() == query.read_bytes()


def test_a_report_may_stand_beside_a_10x_matrix(reference: LocalReference, tmp_path: Path) -> None:
    query = FORMATS["10x folder"](toy_query(4), tmp_path)
    map_to(reference, query, query / "out.parquet", report=query / "report.json")
    assert {"out.parquet", "report.json"} < set(listing(query))


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
        map_to(reference, query, tmp_path / name, overwrite=True)
        assert (tmp_path / name).stat().st_size > 1000
    map_to(reference, query, tmp_path / "parts", batch_size=4)
    map_to(reference, query, tmp_path / "parts", batch_size=20, overwrite=True)
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
        map_to(reference, good, tmp_path / name)
    before = contents(tmp_path)
    act = lambda: map_to(reference, bad, tmp_path / name, batch_size=1, overwrite=True)  # noqa: E731
    refusal(CountsError, act, "0.5")
    assert contents(tmp_path) == before


def test_a_query_of_other_genes_leaves_nothing(reference: LocalReference, tmp_path: Path) -> None:
    adata = toy_query(8)
    adata.var = pd.DataFrame(index=[f"mt-{name}" for name in adata.var_names])
    query = write_anndata(adata, tmp_path / "query.h5ad")
    refusal(AlignmentError, lambda: map_to(reference, query, tmp_path / "out.parquet"), "no gene in common")
    assert listing(tmp_path) == ["query.h5ad"]


def test_too_little_memory_to_write_is_no_damage(
    reference: LocalReference, query: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*arguments: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr(annotated_copy, "copy_query", exhausted)
    with pytest.raises(MemoryError):
        map_to(reference, query, tmp_path / "out.h5ad")
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
    map_to(reference, query, tmp_path / "one.parquet")
    assert pq.read_table(tmp_path / "out.parquet").equals(pq.read_table(tmp_path / "one.parquet"))


@pytest.mark.parametrize(
    ("name", "share"), [("out.h5ad", 0.5), ("out.h5ad", 1.1), ("out.parquet", 0.05), ("parts", 0.05)]
)
def test_no_room_is_an_error_that_names_the_output(
    reference: LocalReference, query: Path, tmp_path: Path, name: str, share: float
) -> None:
    limit = int(share * query.stat().st_size)

    def act() -> None:
        with file_size_limit(limit):
            map_to(reference, query, tmp_path / name)

    refusal(OutputError, act, name, "this fails", "Make room")
    assert listing(tmp_path) == ["query.h5ad"]


def test_a_folder_that_cannot_be_written_to_is_refused(reference: LocalReference, query: Path) -> None:
    refusal(OutputError, lambda: map_to(reference, query, "/proc/out.parquet"), "'/proc'", "Choose another place")
