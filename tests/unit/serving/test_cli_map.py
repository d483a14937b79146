"""The command line: `totalanvi map` and `info`, and how errors look to a user."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import anndata
import h5py
import mudata
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from tests.support.queries import (
    assert_same_annotations,
    assert_three_parts,
    one_count,
    toy_mudata,
    write_anndata,
    write_mudata,
)
from tests.support.toy_bundle import TOY, toy_query, write_toy_bundle

from totalanvi.serving.cli import COMMANDS, main
from totalanvi.serving.info import ReferenceInfo
from totalanvi.serving.mapper import LocalReference

CONSOLE_SCRIPT = Path(sys.executable).parent / "totalanvi"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_bundle(tmp_path_factory.mktemp("cli") / "toy")


@pytest.fixture
def query(tmp_path: Path) -> Path:
    return write_anndata(toy_query(12), tmp_path / "query.h5ad")


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process: exit code, stdout, stderr."""

    def act(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return int(caught.value.code or 0), printed.out, printed.err

    return act


def listing(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# The real console script


def test_the_console_script_maps(bundle: Path, query: Path, tmp_path: Path) -> None:
    command = [CONSOLE_SCRIPT, "map", bundle, query, "-o", tmp_path / "out.h5ad", "--samples", "3", "--batch-size", "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Cells:      12 mapped" in done.stdout
    assert "60 of 60 genes by var_names, which carry 100.0%" in done.stdout
    assert "6 of 6 proteins" in done.stdout
    assert f"Output:     {tmp_path / 'out.h5ad'}" in done.stdout
    assert done.stderr == ""
    expected = LocalReference(bundle).map(toy_query(12), samples=3)
    assert_same_annotations(anndata.read_h5ad(tmp_path / "out.h5ad"), expected)
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert_three_parts(again.stderr, "Error: Expected an output that does not exist yet", "--overwrite")
    assert "Traceback" not in again.stderr
    assert again.stdout == ""
    subprocess.run([*command, "--overwrite"], capture_output=True, check=True)


def _hear_signals() -> None:
    """Undo what a shell does to what it runs in the background: there, an interrupt is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("sent", "code", "said"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "told to end")],
    ids=["int", "term"],
)
def test_a_signal_leaves_nothing_half_written(
    bundle: Path, tmp_path: Path, sent: signal.Signals, code: int, said: str
) -> None:
    query = write_anndata(toy_query(20_000), tmp_path / "query.h5ad")
    arguments = ["map", str(bundle), str(query), "-o", str(tmp_path / "out/"), "--batch-size", "1"]
    with subprocess.Popen(
        [CONSOLE_SCRIPT, *arguments], stderr=subprocess.PIPE, text=True, preexec_fn=_hear_signals
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while not list(tmp_path.glob(".out.*/out/part-00003.parquet")):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            process.send_signal(sent)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == code
    assert errors.splitlines()[-1].startswith(f"Error: {said}")
    assert "Traceback" not in errors
    assert listing(tmp_path) == ["query.h5ad"]


BLOCKED = """
import importlib.abc, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
from totalanvi.serving.cli import main
main({arguments})
"""


def without(blocked: set[str], *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process that cannot import some packages."""
    code = BLOCKED.format(blocked=blocked, arguments=[str(argument) for argument in arguments])
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["out.h5ad", "out.parquet"])
def test_mapping_needs_no_torch(bundle: Path, query: Path, tmp_path: Path, name: str) -> None:
    done = without({"torch", "lightning", "bentoml", "httpx"}, "map", bundle, query, "-o", tmp_path / name)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / name).exists()


@pytest.mark.parametrize(("package", "extra"), [("onnxruntime", "serve"), ("safetensors", "serve"), ("numba", "serve")])
def test_a_missing_package_is_named_with_the_extra_that_brings_it(
    bundle: Path, query: Path, tmp_path: Path, package: str, extra: str
) -> None:
    done = without({package}, "map", bundle, query, "-o", tmp_path / "out.h5ad")
    assert done.returncode == 2
    assert_three_parts(done.stderr, f"the package {package!r}", f"pip install 'totalanvi[{extra}]'")
    assert "Traceback" not in done.stderr
    assert listing(tmp_path) == ["query.h5ad"]


def test_help_and_version_import_nothing_heavy() -> None:
    for argument in ("--help", "--version"):
        done = without({"torch", "numpy", "pandas", "anndata", "pydantic", "rich"}, argument)
        assert done.returncode == 0, done.stderr


# Root of the command line


def test_help_lists_the_commands_in_their_order(run: Run) -> None:
    code, printed, _ = run("--help")
    assert code == 0
    places = [printed.index(f"\n  {name} ") for name in COMMANDS]
    assert places == sorted(places)
    assert list(COMMANDS) == ["simulate", "train", "import-scvi", "export", "map", "serve", "info", "demo"]


def test_version(run: Run) -> None:
    code, printed, _ = run("--version")
    assert code == 0
    assert printed.startswith("totalanvi ")


def test_slips_exit_2_and_show_usage(run: Run, tmp_path: Path) -> None:
    for arguments in (["nope"], ["map"], ["map", "a", "b"], ["map", "a", "b", "-o", "c", "--background", "some"]):
        code, _, errors = run(*arguments)
        assert code == 2
        assert "Usage: totalanvi" in errors
        assert "Error: " in errors


@pytest.mark.parametrize("command", ["map", "serve", "info"])
def test_each_command_has_help(run: Run, command: str) -> None:
    code, printed, _ = run(command, "--help")
    assert code == 0
    assert f"Usage: totalanvi {command}" in printed


def test_a_bug_keeps_its_traceback(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalReference, "info", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["info", str(bundle)])


# map


def test_every_option_reaches_the_result(run: Run, bundle: Path, tmp_path: Path) -> None:
    adata = toy_query(9)
    adata.layers["counts"] = adata.X.copy()
    adata.X = np.log1p(adata.X)
    adata.obsm["adt"] = adata.obsm["protein_expression"] * 2
    query = write_anndata(adata, tmp_path / "query.h5ad")
    options = ["--layer", "counts", "--proteins", "adt", "--samples", "4", "--background", "include"]
    options += ["--impute-as", "run2", "--coverage", "0.8", "--false-positive-rate", "0.2", "--certainty", "0.99"]
    code, printed, errors = run("map", bundle, query, "-o", tmp_path / "out.h5ad", *options)
    assert (code, errors) == (0, "")
    asked = {"impute_as": "run2", "coverage": 0.8, "false_positive_rate": 0.2, "certainty": 0.99}
    expected = LocalReference(bundle).map(adata, "adt", "counts", samples=4, background="include", **asked)
    n_unknown = (expected.obs["totalanvi_label"] == "unknown").sum()
    assert n_unknown > 0
    assert f"Unknown:    {n_unknown} cells, more novel than all but 20.00% of cells like the reference's\n" in printed
    assert_same_annotations(anndata.read_h5ad(tmp_path / "out.h5ad"), expected)
    code, _, _ = run(
        "map",
        bundle,
        query,
        "-o",
        tmp_path / "two.h5ad",
        "--layer",
        "counts",
        "--proteins",
        "none",
        "--no-impute",
        "--keep-unknown-labels",
    )
    assert code == 0
    expected = LocalReference(bundle).map(adata, "none", "counts", impute=False, keep_unknown_labels=True)
    assert_same_annotations(anndata.read_h5ad(tmp_path / "two.h5ad"), expected)


@pytest.mark.parametrize("name", ["out.h5ad", "out.h5mu", "out.parquet", "out/"])
def test_a_mudata_maps_into_every_format(run: Run, bundle: Path, tmp_path: Path, name: str) -> None:
    query = write_mudata(toy_mudata(n_cells=15, n_rna_only=3, n_protein_only=2), tmp_path / "query.h5mu")
    code, printed, errors = run("map", bundle, query, "-o", f"{tmp_path}/{name}", "--batch-size", "4")
    assert code == 0
    assert "Cells:      13 mapped, 2 without RNA" in printed
    assert "Warning: 2 of 15 cells have no RNA and cannot be mapped" in errors
    if name == "out.h5ad":
        assert anndata.read_h5ad(tmp_path / name).n_obs == 13
    elif name == "out.h5mu":
        assert mudata.read_h5mu(tmp_path / name).obs["totalanvi_label"].notna().sum() == 13
    else:
        assert pq.read_table(tmp_path / name).num_rows == 15


def test_warnings_go_to_stderr(run: Run, bundle: Path, tmp_path: Path) -> None:
    adata = toy_query(9)[:, :30].copy()
    adata.obsm["protein_expression"].columns = [f"unknown{i}" for i in range(6)]
    code, printed, errors = run("map", bundle, write_anndata(adata, tmp_path / "q.h5ad"), "-o", tmp_path / "o.parquet")
    assert code == 0
    assert errors.count("Warning: ") == 3
    assert "RNA cannot predict 'IgG1'" in errors
    assert "of what the model has learned from genes, less than 80%" in errors
    assert "None of the query's 6 proteins" in errors
    assert "30 of 60 genes" in printed
    assert "0 of 6 proteins" in printed


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _truncated(path: Path) -> Path:
    whole = write_anndata(toy_query(5), path).read_bytes()
    return _write(path, whole[: len(whole) // 2])


def _not_anndata(path: Path) -> Path:
    with h5py.File(path, "w") as stored:
        stored["matrix"] = np.zeros(3)
    return path


def _outside(path: Path) -> Path:
    write_anndata(toy_query(5), path)
    with h5py.File(path, "r+") as stored:
        stored["uns/link"] = h5py.ExternalLink("/etc/passwd", "/")
    return path


def _renamed(path: Path, cells: list[str] | None = None, genes: list[str] | None = None) -> Path:
    adata = toy_query(5, proteins=False)
    adata.obs_names = cells or adata.obs_names
    if genes is not None:
        adata.var = pd.DataFrame(index=genes)
    return write_anndata(adata, path)


def _two_counts(path: Path) -> Path:
    adata = toy_query(5)
    adata.layers["counts"] = adata.X.copy()
    adata.layers["corrected"] = adata.X * 2
    adata.X = np.log1p(adata.X)
    return write_anndata(adata, path)


def _normalised(path: Path) -> Path:
    adata = toy_query(5)
    adata.X = np.log1p(adata.X)
    return write_anndata(adata, path)


BAD_QUERIES: dict[str, tuple[Callable[[Path], Path], list[str]]] = {
    "missing": (lambda path: path, ["found nothing at", "Check the path"]),
    "not HDF5": (lambda path: _write(path, b"cell,gene\n"), ["Expected an HDF5 file", "write_h5ad"]),
    "truncated": (_truncated, ["truncated or damaged", "Copy it again"]),
    "not AnnData": (_not_anndata, ["an AnnData", "'matrix'"]),
    "reaches outside": (_outside, ["a link into another file", "'/uns/link'"]),
    "no cells": (lambda path: write_anndata(toy_query(5)[:0].copy(), path), ["0 cells", "filtered"]),
    "normalised": (_normalised, ["raw counts", "not whole", "--layer"]),
    "two counts": (_two_counts, ["X holds ", "'counts' holds raw counts", "'corrected' holds raw counts", "--layer"]),
    "negative": (lambda path: write_anndata(one_count(-1), path), ["-1", "negative", "'cell3'", "'GENE007'"]),
    "NaN": (lambda path: write_anndata(one_count(np.nan), path), ["nan", "not a number", "'cell3'", "'GENE007'"]),
    "infinite": (lambda path: write_anndata(one_count(np.inf), path), ["inf", "infinite", "'cell3'"]),
    "repeated cells": (lambda path: _renamed(path, cells=list("aabcd")), ["'a'", "obs_names_make_unique"]),
    "another species": (
        lambda path: _renamed(path, genes=[name.capitalize() for name in TOY.genes]),
        ["another (mouse or rat)", "'Gene000'", "--feature-map"],
    ),
    "no gene in common": (
        lambda path: _renamed(path, genes=[f"x{i}" for i in range(60)]),
        ["no gene in common", "'x0'"],
    ),
    "too few genes": (
        lambda path: _renamed(path, genes=TOY.genes[:5] + [f"x{i}" for i in range(55)]),
        ["too few in common", "5 of 60 genes", "20%"],
    ),
}


@pytest.mark.parametrize("case", BAD_QUERIES)
@pytest.mark.parametrize("name", ["out.h5ad", "out/"])
def test_a_bad_query_is_one_clear_error(run: Run, bundle: Path, tmp_path: Path, case: str, name: str) -> None:
    make, parts = BAD_QUERIES[case]
    query = make(tmp_path / "query.h5ad")
    code, printed, errors = run("map", bundle, query, "-o", f"{tmp_path}/{name}", "--batch-size", "2")
    assert code == 2
    assert printed == ""
    assert errors.startswith("Error: ")
    assert errors.count("\n") == 1
    assert_three_parts(errors, *parts)
    assert [entry for entry in listing(tmp_path) if entry != "query.h5ad"] == []


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["-o", "out.txt"], ["Expected an output that ends in", "out.txt"]),
        (["-o", "query.h5ad"], ["other than the query"]),
        (["-o", "taken.parquet"], ["does not exist yet", "taken.parquet", "--overwrite"]),
        (["-o", "out.h5mu"], ["a MuData query", "out.h5ad"]),
        (["-o", "none/out.h5ad"], ["a folder for the output", "Create it"]),
        (["-o", "out.h5ad", "--layer", "counts"], ["'counts'", "no layers"]),
        (["-o", "out.h5ad", "--proteins", "adt"], ["obsm 'adt'", "'protein_expression'"]),
        (["-o", "out.h5ad", "--impute-as", "run3"], ["'run1', 'run2'", "found 'run3'", "--impute-as"]),
    ],
)
def test_a_bad_option_is_one_clear_error(
    run: Run, bundle: Path, query: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], parts: list[str]
) -> None:
    monkeypatch.chdir(query.parent)
    Path("taken.parquet").write_text("mine")
    code, printed, errors = run("map", bundle, "query.h5ad", *arguments)
    assert (code, printed) == (2, "")
    assert errors.count("\n") == 1
    assert_three_parts(errors, *parts)
    assert listing(query.parent) == ["query.h5ad", "taken.parquet"]
    assert Path("taken.parquet").read_text() == "mine"


def test_a_missing_modality_is_one_clear_error(run: Run, bundle: Path, tmp_path: Path) -> None:
    query = write_mudata(toy_mudata(), tmp_path / "query.h5mu")
    code, _, errors = run("map", bundle, query, "-o", tmp_path / "out.h5mu", "--proteins", "prot")
    assert code == 2
    assert_three_parts(errors, "modality 'prot'", "'adt', 'rna'", "--proteins")


def test_a_missing_bundle_is_one_clear_error(run: Run, query: Path, tmp_path: Path) -> None:
    code, _, errors = run("map", tmp_path / "nothing" / "here", query, "-o", tmp_path / "out.h5ad")
    assert code == 2
    assert errors.count("\n") == 1
    assert "nothing/here" in errors
    assert listing(tmp_path) == ["query.h5ad"]


def test_an_output_that_exists_is_refused_before_any_work(run: Run, tmp_path: Path) -> None:
    (tmp_path / "out.h5ad").write_text("mine")
    code, _, errors = run("map", "no-such-bundle", tmp_path / "missing.h5ad", "-o", tmp_path / "out.h5ad")
    assert code == 2
    assert "does not exist yet" in errors


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal")
def test_a_terminal_shows_progress_on_stderr(bundle: Path, query: Path, tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    command = [CONSOLE_SCRIPT, "map", bundle, query, "-o", tmp_path / "out.parquet", "--batch-size", "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, text=True) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 4096):
                shown += piece
        except OSError:  # Linux says so when the other end has closed.
            pass
        printed, _ = process.communicate(timeout=60)
    os.close(ours)
    assert b"Mapping cells" in shown
    assert b"12/12" in shown
    assert printed.startswith("Cells:      12 mapped")


# info


def test_info_in_words_and_as_json(run: Run, bundle: Path) -> None:
    code, printed, _ = run("info", bundle)
    assert code == 0
    for part in (
        "toy 1",
        "60",
        "B cell, CD4 T, CD8 T, NK",
        "CD19, CD4",
        "run1, run2",
        "accuracy 0.980",
        "part of the panel",
        "IgG1 0.100",
        "cpu",
    ):
        assert part in printed
    code, printed, _ = run("info", bundle, "--json")
    assert code == 0
    assert ReferenceInfo.model_validate(json.loads(printed)) == LocalReference(bundle).info()


def test_info_of_nothing_is_one_clear_error(run: Run, tmp_path: Path) -> None:
    code, printed, errors = run("info", tmp_path)
    assert (code, printed) == (2, "")
    assert errors.startswith("Error: ")
    assert errors.count("\n") == 1
