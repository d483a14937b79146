"""Many queries as one job: what comes of it, what is kept, what is refused."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import anndata
import mudata
import pyarrow.parquet as pq
import pytest
from tests.support.command_line import Run
from tests.support.files import contents, listing
from tests.support.mapping import map_to
from tests.support.queries import (
    assert_same_annotations,
    assert_three_parts,
    toy_mudata,
    write_anndata,
    write_mudata,
)
from tests.support.toy_bundle import toy_query, write_toy_bundle
from tests.support.uploads import Open

from totalanvi.serving.jobs.here import map_here
from totalanvi.serving.jobs.job import map_job
from totalanvi.serving.jobs.listed import Listed
from totalanvi.serving.jobs.outcome import QueryOutcome
from totalanvi.serving.jobs.worker import Setting
from totalanvi.serving.locks import taken_lock
from totalanvi.serving.mapping.local import LocalReference

PLUG_IN = ("--samples", 1)


@pytest.fixture
def queries(tmp_path: Path) -> Path:
    """Three queries in a folder: `donor1` (21 cells), `donor2` (10) and `joint` (15, two of them without RNA)."""
    folder = tmp_path / "queries"
    folder.mkdir()
    write_anndata(toy_query(21, 1), folder / "donor1.h5ad")
    write_anndata(toy_query(10, 2), folder / "donor2.h5ad")
    write_mudata(toy_mudata(15, n_rna_only=3, n_protein_only=2), folder / "joint.h5mu")
    return folder


def test_a_folder_becomes_parts_that_are_what_each_query_gives_alone(
    run: Run, reference: LocalReference, toy_folder: Path, queries: Path, tmp_path: Path
) -> None:
    (queries / "README.md").write_text("not a query")
    (queries / "nested").mkdir()
    scored = tmp_path / "scored"
    code, printed, said = run("map", toy_folder, queries, "-o", f"{scored}/", "--part-cells", 8, *PLUG_IN)

    assert code == 0, said
    assert "donor1: 21 cells in 3 parts\n" in printed
    assert "Queries:    3 done\nCells:      44 mapped, 41 of them with proteins; 2 without RNA\n" in printed
    assert "Warning: joint: 2 of 15 cells have no RNA and cannot be mapped" in said
    assert listing(scored) == ["_job", "_summary.json", "donor1", "donor2", "joint"]
    for file, n_parts in (("donor1.h5ad", 3), ("donor2.h5ad", 2), ("joint.h5mu", 2)):
        query = queries / file
        map_to(reference, query, tmp_path / f"{query.stem}.parquet")
        alone = pq.read_table(tmp_path / f"{query.stem}.parquet")
        assert listing(scored / query.stem) == [f"part-{place:05d}.parquet" for place in range(n_parts)]
        found = pq.read_table(scored / query.stem)
        assert found.schema.metadata[b"totalanvi"] == alone.schema.metadata[b"totalanvi"]
        assert found.unify_dictionaries().equals(alone.unify_dictionaries())
    # Readers of folders of tables leave out what begins with an underscore.
    assert pq.read_table(scored).num_rows == 46

    summary = json.loads((scored / "_summary.json").read_bytes())
    assert (summary["done"], summary["failed"], summary["n_cells"], summary["n_without_rna"]) == (3, 0, 46, 2)
    assert sum(summary["labels"].values()) == 44
    assert [query["query"] for query in summary["queries"]] == ["donor1", "donor2", "joint"]


def test_many_unknown_cells_are_told_of_a_query_as_they_are_of_it_alone(
    run: Run, reference: LocalReference, toy_folder: Path, tmp_path: Path
) -> None:
    mixed = toy_query(21)
    counts = mixed.X.toarray()
    counts[::3] = 6  # The markers of all labels at once.
    mixed.X = counts
    strange = write_anndata(mixed, tmp_path / "strange.h5ad")
    alike = write_anndata(toy_query(10, 2), tmp_path / "alike.h5ad")
    (warning,) = (
        message
        for message in map_to(reference, strange, tmp_path / "alone.parquet").messages
        if "more novel than cells like the reference's" in message
    )
    words = ("map", toy_folder, strange, alike, "--resume", tmp_path / "scored", "--part-cells", 8, *PLUG_IN)
    for _ in range(2):  # Of what an earlier run has done, too.
        code, _, said = run(*words)
        assert code == 0, said
        assert f"Warning: strange: {warning}" in said.splitlines()
        assert said.count("more novel than") == 1
    looser = (*words[:4], "-o", f"{tmp_path}/looser/", "--false-positive-rate", 0.4, *PLUG_IN)
    code, _, said = run(*looser)
    assert code == 0, said
    assert "more novel than" not in said


def test_copies_are_what_each_query_gives_alone(
    run: Run, reference: LocalReference, toy_folder: Path, queries: Path, tmp_path: Path
) -> None:
    words = (f"{queries}/donor1.h5ad", f"{queries}/joint.h5mu", "-o", f"{tmp_path}/scored/", "--copies")
    assert run("map", toy_folder, *words, *PLUG_IN)[0] == 0
    for name, read in (("donor1.h5ad", anndata.read_h5ad), ("joint.h5mu", mudata.read_h5mu)):
        map_to(reference, queries / name, tmp_path / name)
        copy = tmp_path / "scored" / name.partition(".")[0] / name
        assert_same_annotations(read(copy), read(tmp_path / name))


def test_what_is_done_and_whole_is_not_done_again(run: Run, toy_folder: Path, queries: Path, tmp_path: Path) -> None:
    scored = tmp_path / "scored"
    words = ("map", toy_folder, queries, "--resume", scored, "--part-cells", 8, *PLUG_IN)
    code, printed, _ = run(*words)  # There is nothing to go on with: it begins.
    assert code == 0
    whole = contents(scored)
    made = {name: (scored / name).stat().st_mtime_ns for name in whole}

    (scored / "_summary.json").unlink()
    (scored / "donor1" / "part-00001.parquet").write_bytes(b"damaged")
    (scored / "donor2" / "part-00000.parquet").unlink()
    (scored / "_job" / "queries" / "joint" / "00001.json").write_text("{torn")
    (scored / "_job" / "work").mkdir()
    (scored / "_job" / "work" / "left behind").touch()
    code, printed, _ = run(*words)

    assert code == 0
    assert "donor1: 21 cells in 3 parts, 2 done by an earlier run\n" in printed
    assert "donor2: 10 cells in 2 parts, 1 done by an earlier run\n" in printed
    assert "joint: 15 cells in 2 parts, 1 done by an earlier run\n" in printed
    again = contents(scored)
    assert {name for name in whole if again[name] != whole[name]} == {"_summary.json"}
    assert set(again) == set(whole)
    remade = {name for name in whole if (scored / name).stat().st_mtime_ns != made[name]}
    assert {name for name in remade if name.endswith(".parquet")} == {
        "donor1/part-00001.parquet",
        "donor2/part-00000.parquet",
        "joint/part-00001.parquet",
    }


def test_a_query_that_changed_is_mapped_anew(run: Run, toy_folder: Path, queries: Path, tmp_path: Path) -> None:
    scored = tmp_path / "scored"
    words = ("map", toy_folder, queries, "--resume", scored, "--part-cells", 8, *PLUG_IN)
    assert run(*words)[0] == 0
    write_anndata(toy_query(6, 9), queries / "donor1.h5ad")
    (queries / "donor2.h5ad").write_bytes(b"no longer a query")
    (queries / "joint.h5mu").unlink()
    code, printed, said = run(*words)

    assert code == 3
    assert "donor1: 6 cells in 1 part\n" in printed
    assert "Queries:    1 done, 1 failed; 1 more of earlier runs\n" in printed
    assert said.startswith(f"Failed: donor2 ({queries}/donor2.h5ad): Expected an HDF5 file")
    assert listing(scored) == ["_job", "_summary.json", "donor1", "joint"]
    assert pq.read_table(scored / "donor1")["cell_id"].to_pylist() == [f"cell{place}" for place in range(6)]


def test_one_that_fails_does_not_keep_the_others(run: Run, toy_folder: Path, queries: Path, tmp_path: Path) -> None:
    words = ["map", toy_folder, tmp_path / "absent.h5ad", queries, "-o", f"{tmp_path}/scored/", *PLUG_IN]
    code, printed, said = run(*words)
    assert code == 3
    assert "Queries:    3 done, 1 failed\n" in printed
    assert_three_parts(said, "Failed: absent", "found nothing that can be read", "Check the path")
    found = json.loads((tmp_path / "scored" / "_summary.json").read_bytes())["queries"]
    assert [(query["query"], query["status"]) for query in found] == [
        ("absent", "failed"),
        ("donor1", "done"),
        ("donor2", "done"),
        ("joint", "done"),
    ]
    assert said.partition("): ")[2].startswith(found[0]["error"])


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--samples", 2], ["the options of this run", "found others (--samples)"]),
        (["--part-cells", 9], ["found others (--part-cells)"]),
        (["--copies"], ["--copies", "--part-cells"]),
    ],
)
def test_a_ledger_of_other_options_is_refused(
    run: Run, toy_folder: Path, queries: Path, tmp_path: Path, options: list[object], parts: list[str]
) -> None:
    scored = tmp_path / "scored"
    assert run("map", toy_folder, queries, "-o", f"{scored}/", *PLUG_IN)[0] == 0
    before = contents(scored)
    code, printed, said = run("map", toy_folder, queries, "--resume", scored, *PLUG_IN, *options)
    assert (code, printed) == (2, "")
    assert said.count("\n") == 1
    assert_three_parts(said, *parts, "another folder")
    assert contents(scored) == before


def test_a_ledger_of_another_reference_is_refused_and_can_be_replaced(
    run: Run, toy_folder: Path, queries: Path, tmp_path: Path
) -> None:
    scored = tmp_path / "scored"
    assert run("map", toy_folder, queries, "-o", f"{scored}/", *PLUG_IN)[0] == 0
    other = write_toy_bundle(tmp_path / "other", version="2", noise_seed=8)
    code, _, said = run("map", other, queries, "--resume", scored, *PLUG_IN)
    assert code == 2
    assert said.count("\n") == 1
    assert_three_parts(said, "the reference toy 2 (", "the reference toy 1 (", "another folder")

    code, _, said = run("map", other, queries / "donor1.h5ad", "-o", f"{scored}/", "--overwrite", "--engine", "local")
    assert code == 0, said
    assert listing(scored) == ["_job", "_summary.json", "donor1"]


def test_an_endpoint_does_what_a_bundle_does(
    run: Run, opened: Open, toy_folder: Path, queries: Path, tmp_path: Path
) -> None:
    words = (queries, *PLUG_IN, "--part-cells", 8, "--batch-size", 4)
    assert run("map", toy_folder, *words, "-o", f"{tmp_path}/here/")[0] == 0
    code, _, said = run("map", opened().base_url, *words, "-o", f"{tmp_path}/there/")
    assert code == 0, said
    here, there = contents(tmp_path / "here"), contents(tmp_path / "there")
    assert {name for name in here if here[name] != there[name]} == {"_summary.json"}
    assert set(here) == set(there)


def test_what_a_job_may_not_do(run: Run, toy_folder: Path, queries: Path, tmp_path: Path) -> None:
    def refused(*words: object) -> str:
        code, printed, said = run("map", toy_folder, queries, *words)
        assert (code, printed, said.count("\n")) == (2, "", 1)
        assert_three_parts(said)
        return said

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    (tmp_path / "file").touch()
    scored = f"{tmp_path}/scored/"
    assert "'notes.txt'" in refused("-o", f"{tmp_path}/mine/")
    assert "found a file" in refused("-o", tmp_path / "file")
    assert "Create it" in refused("-o", f"{tmp_path}/none/scored/")
    assert "slash" in refused(queries / "donor1.h5ad", "-o", tmp_path / "out.parquet")
    assert "found none" in refused("--copies")
    assert " and " in refused("-o", scored, "--resume", tmp_path / "other", "--copies")
    assert "found both" in refused("--resume", scored, "--overwrite")
    assert "--engine ray" in refused("-o", scored, "--workers", 2)
    assert "--engine ray" in refused("-o", scored, "--cluster", "10.0.0.1:6379")
    assert "--engine ray" in refused("-o", scored, "--engine", "local", "--cluster", "10.0.0.1:6379")
    assert "totalanvi report" in refused("-o", scored, "--report", tmp_path / "report.html")
    assert not (tmp_path / "scored").exists()

    assert run("map", toy_folder, queries, "-o", scored, *PLUG_IN)[0] == 0
    assert "--resume" in refused("-o", scored, *PLUG_IN)
    taken = taken_lock(tmp_path / "scored" / "_job" / "lock")
    assert taken is not None
    assert "one at work" in refused("--resume", scored, *PLUG_IN)
    os.close(taken)


def test_one_query_without_an_output_is_a_slip(run: Run, toy_folder: Path, query: Path) -> None:
    code, _, said = run("map", toy_folder, query)
    assert code == 2
    assert "--output" in said


def test_options_of_ray_are_no_options_of_one_query_and_its_environment_is_no_option(
    run: Run, toy_folder: Path, query: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("map", toy_folder, query, "-o", tmp_path / "out.parquet", *PLUG_IN)
    for option, value in (("--cluster", "10.0.0.1:6379"), ("--workers", 2)):
        code, printed, said = run(*words, option, value)
        assert (code, printed) == (2, "")
        assert_three_parts(said, f"Expected {option} for a job on Ray", "--engine ray")
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    code, _, said = run(*words)
    assert code == 0, said


def test_a_folder_of_results_can_be_reported_on(run: Run, toy_folder: Path, queries: Path, tmp_path: Path) -> None:
    assert run("map", toy_folder, queries, "-o", f"{tmp_path}/scored/", "--part-cells", 8, *PLUG_IN)[0] == 0
    code, _, said = run("report", tmp_path / "scored" / "donor1", "-o", tmp_path / "report.html")
    assert code == 0, said
    assert "21" in (tmp_path / "report.html").read_text()


def test_a_ledger_cannot_name_what_is_outside(run: Run, toy_folder: Path, queries: Path, tmp_path: Path) -> None:
    scored, mine = tmp_path / "scored", tmp_path / "mine"
    words = ("map", toy_folder, queries / "donor1.h5ad", "--resume", scored, *PLUG_IN)
    assert run(*words)[0] == 0
    mine.mkdir()
    (mine / "notes.txt").touch()
    record = scored / "_job" / "queries" / "donor1" / "query.json"
    record.write_text(record.read_text().replace('"name": "donor1"', '"name": "../mine"'))
    assert "../mine" in record.read_text()

    code, printed, said = run(*words)
    assert code == 0, said
    assert listing(mine) == ["notes.txt"]
    assert "donor1: 21 cells in 1 part\n" in printed


def test_results_are_not_removed_for_what_cannot_begin(
    run: Run, toy_folder: Path, queries: Path, tmp_path: Path
) -> None:
    scored = tmp_path / "scored"
    assert run("map", toy_folder, queries / "donor1.h5ad", "-o", f"{scored}/", "--copies", *PLUG_IN)[0] == 0
    before = contents(scored)
    code, _, said = run(
        "map", toy_folder, scored / "donor1" / "donor1.h5ad", "-o", f"{scored}/", "--copies", "--overwrite"
    )
    assert code == 2
    assert_three_parts(said, "nor around them", "Choose another")
    (queries / "list.csv").write_text("query,name\ndonor1.h5ad,same\ndonor2.h5ad,same\n")
    code, _, said = run("map", toy_folder, queries / "list.csv", "-o", f"{scored}/", "--overwrite")
    assert code == 2
    assert_three_parts(said, "'same' twice")
    assert contents(scored) == before
    assert run("map", toy_folder, queries / "list.csv", "-o", f"{tmp_path}/new/")[0] == 2
    assert not (tmp_path / "new").exists()


def test_workers_in_another_folder_find_the_bundle(
    toy_folder: Path, queries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere(setting: Setting, named: Mapping[str, Listed]) -> Iterator[QueryOutcome]:
        monkeypatch.chdir(queries)
        yield from map_here(setting, named)

    monkeypatch.chdir(toy_folder.parent)
    assert map_job(toy_folder.name, [str(queries / "donor2.h5ad")], tmp_path / "scored", engine=elsewhere).done == 1


def test_a_file_system_without_locks_is_not_another_run(
    run: Run, toy_folder: Path, queries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    code, _, said = run("map", toy_folder, queries, "-o", f"{tmp_path}/scored/")
    assert code == 2
    assert_three_parts(said, os.strerror(errno.ENOLCK), "another place")
