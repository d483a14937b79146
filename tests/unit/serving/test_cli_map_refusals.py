"""What `totalanvi map` refuses, each in one clear error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from tests.support.command_line import Run
from tests.support.files import listing
from tests.support.queries import assert_three_parts, one_count, toy_mudata, write_anndata, write_mudata
from tests.support.toy_bundle import TOY, toy_query


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
def test_a_bad_query_is_one_clear_error(run: Run, toy_folder: Path, tmp_path: Path, case: str, name: str) -> None:
    make, parts = BAD_QUERIES[case]
    query = make(tmp_path / "query.h5ad")
    code, printed, errors = run("map", toy_folder, query, "-o", f"{tmp_path}/{name}", "--batch-size", "2")
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
        (["-o", f"{'x' * 300}.h5ad"], ["Expected to open and write", "name too long"]),
        (["-o", "out.h5ad", "--layer", "counts"], ["'counts'", "no layers"]),
        (["-o", "out.h5ad", "--proteins", "adt"], ["obsm 'adt'", "'protein_expression'"]),
        (["-o", "out.h5ad", "--impute-as", "run3"], ["'run1', 'run2'", "found 'run3'", "--impute-as"]),
    ],
)
def test_a_bad_option_is_one_clear_error(
    run: Run, toy_folder: Path, query: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], parts: list[str]
) -> None:
    monkeypatch.chdir(query.parent)
    Path("taken.parquet").write_text("mine")
    code, printed, errors = run("map", toy_folder, "query.h5ad", *arguments)
    assert (code, printed) == (2, "")
    assert errors.count("\n") == 1
    assert_three_parts(errors, *parts)
    assert listing(query.parent) == ["query.h5ad", "taken.parquet"]
    assert Path("taken.parquet").read_text() == "mine"


def test_a_missing_modality_is_one_clear_error(run: Run, toy_folder: Path, tmp_path: Path) -> None:
    query = write_mudata(toy_mudata(), tmp_path / "query.h5mu")
    code, _, errors = run("map", toy_folder, query, "-o", tmp_path / "out.h5mu", "--proteins", "prot")
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


def test_a_folder_of_queries_needs_a_folder_for_its_results(run: Run, toy_folder: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    for name in "ab":
        write_anndata(toy_query(5), runs / f"{name}.h5ad")
    output = tmp_path / "scored.parquet"
    code, printed, errors = run("map", toy_folder, runs, "-o", output)
    assert (code, printed) == (2, "")
    assert_three_parts(
        errors, "a folder for the results of several queries", repr(str(output)), f"(-o {tmp_path}/scored/)"
    )
    assert listing(tmp_path) == ["runs"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--background", "some"], "'--background': 'some' is not one of 'exclude', 'include'."),
        (["--engine", "spark"], "'--engine': 'spark' is not one of 'local', 'ray'."),
    ],
)
def test_a_choice_that_is_none_is_told_in_our_words(run: Run, tmp_path: Path, words: list[str], message: str) -> None:
    code, _, errors = run("map", "bundle", "query.h5ad", "-o", tmp_path / "out.h5ad", *words)
    assert code == 2
    assert f"Error: Invalid value for {message}\n" in errors
