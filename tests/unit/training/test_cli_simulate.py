"""`totalanvi simulate`, run through the command line's own entry."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import mudata as md
import pytest
from tests.support.command_line import QuietRun, exit_code
from tests.support.terminal import at_a_terminal

from totalanvi.formats.mudata_options import not_pulling
from totalanvi.machine.still_going import still_going

SIZES = ("--cells", 30, "--genes", 40, "--proteins", 3, "--labels", 2, "--batches", 2)


def test_simulate_writes_what_was_asked_for(run: QuietRun, tmp_path: Path) -> None:
    for name in ("one", "again"):
        code, said = run("simulate", tmp_path / "folder" / f"{name}.h5mu", *SIZES, "--seed", 5)
        assert code == 0
        assert "30 cells × 40 genes × 3 proteins, 2 cell types" in said
        assert len(said.splitlines()) == 1
    with not_pulling():
        one, again = (md.read_h5mu(tmp_path / "folder" / f"{name}.h5mu") for name in ("one", "again"))
    assert one["rna"].shape == (30, 40)
    assert one["prot"].shape == (30, 3)
    assert one.obs["cell_type"].nunique() == one.obs["batch"].nunique() == 2
    assert (one["rna"].X != again["rna"].X).nnz == 0
    assert sorted(file.name for file in (tmp_path / "folder").iterdir()) == ["again.h5mu", "one.h5mu"]


def test_simulating_that_takes_long_says_so(run: QuietRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("totalanvi.machine.still_going.still_going", partial(still_going, every=0.001))
    words = ("simulate", tmp_path / "cells.h5mu", *SIZES, "--query", tmp_path / "query.h5mu")
    code, said = run(*words)
    assert code == 0, said
    alive = re.findall(r"^(.+): \d+ s so far$", said, re.MULTILINE)
    assert set(alive) == {"Simulating the reference", "Simulating the query"}
    with at_a_terminal(monkeypatch) as shown:
        assert exit_code(*words, "--overwrite") == 0
    assert "so far" not in shown.text


def test_simulate_overwrites_only_when_told_to(run: QuietRun, tmp_path: Path) -> None:
    target = tmp_path / "cells.h5mu"
    target.write_text("mine")
    code, said = run("simulate", target, *SIZES)
    assert code == 2
    assert said == (
        f"Error: Expected an output that does not exist yet, found {target}; choose another, or overwrite it "
        "(--overwrite).\n"
    )
    assert target.read_text() == "mine"
    assert run("simulate", target, *SIZES, "--overwrite")[0] == 0
    assert md.read_h5mu(target).n_obs == 30


def test_simulate_writes_a_query_of_the_same_tissue(run: QuietRun, tmp_path: Path) -> None:
    code, said = run("simulate", tmp_path / "reference.h5mu", "--query", tmp_path / "query.h5mu", *SIZES)
    assert code == 0, said
    with not_pulling():
        reference, query = (md.read_h5mu(tmp_path / f"{name}.h5mu") for name in ("reference", "query"))
    assert list(query["rna"].var_names) == list(reference["rna"].var_names)
    assert list(query["prot"].var_names) == list(reference["prot"].var_names)
    assert set(query.obs["batch"]).isdisjoint(reference.obs["batch"])
    assert all("cell_type" not in part.obs for part in (query, query["rna"], query["prot"]))
    (unseen,) = set(query.obs["true_type"]) - set(reference.obs["cell_type"])
    assert f"Simulated 1000 cells to map, some of the unseen type {unseen}: {tmp_path / 'query.h5mu'}" in said
    assert query["prot"].n_obs == 700


def test_simulate_refuses_a_query_that_would_replace_something(run: QuietRun, tmp_path: Path) -> None:
    code, said = run("simulate", tmp_path / "cells.h5mu", "--query", tmp_path / "cells.h5mu", *SIZES)
    assert code == 2
    assert said == (
        f"Error: Expected another file for the query than for the reference, found {tmp_path / 'cells.h5mu'} for both; "
        "name another.\n"
    )
    (tmp_path / "query.h5mu").write_text("mine")
    assert run("simulate", tmp_path / "cells.h5mu", "--query", tmp_path / "query.h5mu", *SIZES)[0] == 2
    assert [file.name for file in tmp_path.iterdir()] == ["query.h5mu"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cells.h5ad", (), r"Expected an output that ends in .h5mu, found cells.h5ad; name it so"),
        ("cells.h5mu", ("--labels", 1), "n_labels: expected a whole number of at least 2, found 1"),
        ("cells.h5mu", ("--proteins", 50), "n_proteins: expected at most one for each of 40 genes, found 50"),
    ],
)
def test_simulations_that_cannot_be(
    run: QuietRun, tmp_path: Path, name: str, options: tuple[object, ...], message: str
) -> None:
    code, said = run("simulate", tmp_path / name, *SIZES, *options)
    assert code == 2
    assert message in said
    assert not list(tmp_path.iterdir())


def test_simulating_where_nothing_can_be_made(run: QuietRun, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.h5mu").mkdir()
    for target, message in (
        (tmp_path / "file" / "cells.h5mu", f"found {tmp_path / 'file'}, which is a file; choose another place"),
        (tmp_path / "folder.h5mu", "Expected the name of a file to write, found"),
        (tmp_path / "new" / f"{'x' * 250}.h5mu", "found a name of more than 245 bytes; choose another place"),
        (Path("/dev/fd/cells.h5mu"), "Expected a place where /dev/fd/cells.h5mu can be written, found one where"),
    ):
        code, said = run("simulate", target, *SIZES, "--overwrite")
        assert code == 2
        assert message in said
        assert len(said.splitlines()) == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder.h5mu"]


def test_more_cells_than_memory_holds(run: QuietRun, tmp_path: Path) -> None:
    code, said = run("simulate", tmp_path / "cells.h5mu", "--genes", 10**14)
    assert code == 2
    assert said.startswith("Error: Expected memory enough for this, found too little (Unable to allocate")
    assert len(said.splitlines()) == 1
    assert not list(tmp_path.iterdir())
