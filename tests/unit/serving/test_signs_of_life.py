"""What takes long says so now and then, also where nobody watches a terminal."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest
from tests.support.command_line import Run, exit_code
from tests.support.queries import write_anndata
from tests.support.terminal import at_a_terminal
from tests.support.toy_bundle import toy_query

from totalanvi.machine.still_going import still_going
from totalanvi.serving.jobs import command
from totalanvi.serving.mapping import progress

OFTEN, SELDOM = partial(still_going, every=0.001), partial(still_going, every=3600)


def test_a_file_says_how_many_cells_are_done(
    run: Run, toy_folder: Path, query: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("map", toy_folder, query, "-o", tmp_path / "out.parquet", "--samples", 1, "--batch-size", 1)
    monkeypatch.setattr(progress, "still_going", SELDOM)
    code, _, said = run(*words)
    assert (code, said) == (0, ""), "an hour is not over"
    monkeypatch.setattr(progress, "still_going", OFTEN)
    code, _, said = run(*words, "--overwrite")
    assert code == 0
    done = [int(n) for n in re.findall(r"^Mapping cells, (\d+) of 23 done: \d+ s so far$", said, re.MULTILINE)]
    assert len(done) == said.count("\n") > 0
    assert done == sorted(done)
    assert done[-1] > 0


def test_a_job_says_how_many_queries_are_done(
    run: Run, toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = [write_anndata(toy_query(12, seed), tmp_path / f"donor{seed}.h5ad") for seed in range(2)]
    monkeypatch.setattr(command, "still_going", OFTEN)
    code, _, said = run("map", toy_folder, *queries, "-o", f"{tmp_path}/scored/", "--samples", 1)
    assert code == 0
    found = re.findall(r"^Mapping queries, (\d) done or failed: \d+ s so far$", said, re.MULTILINE)
    assert len(found) == said.count(" so far\n")
    assert {"0", "1"} <= set(found)


def test_at_a_terminal_a_file_has_a_bar_and_a_job_what_is_done(
    toy_folder: Path, query: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_anndata(toy_query(12), tmp_path / "other.h5ad")
    monkeypatch.setattr(progress, "still_going", OFTEN)
    monkeypatch.setattr(command, "still_going", OFTEN)
    with at_a_terminal(monkeypatch) as shown:
        assert exit_code("map", toy_folder, query, "-o", tmp_path / "out.parquet", "--samples", 1) == 0
        assert exit_code("map", toy_folder, query, other, "-o", f"{tmp_path}/scored/", "--samples", 1) == 0
    assert "23/23" in shown.text
    assert "so far" not in shown.text
