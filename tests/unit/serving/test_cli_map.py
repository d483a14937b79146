"""`totalanvi map` and `totalanvi info`."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import anndata
import mudata
import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.support.command_line import CONSOLE_SCRIPT, Run
from tests.support.queries import assert_same_annotations, make_mudata, toy_mudata, write_anndata, write_mudata
from tests.support.toy_bundle import toy_query

from totalanvi.serving.bundles.info import ReferenceInfo
from totalanvi.serving.mapping.local import LocalReference


def test_every_option_reaches_the_result(run: Run, toy_folder: Path, tmp_path: Path) -> None:
    adata = toy_query(9)
    adata.layers["counts"] = adata.X.copy()
    adata.X = np.log1p(adata.X)
    adata.obsm["adt"] = adata.obsm["protein_expression"] * 2
    query = write_anndata(adata, tmp_path / "query.h5ad")
    options = ["--layer", "counts", "--proteins", "adt", "--samples", "4", "--background", "include"]
    options += ["--impute-as", "run2", "--coverage", "0.8", "--false-positive-rate", "0.2", "--certainty", "0.99"]
    code, printed, errors = run("map", toy_folder, query, "-o", tmp_path / "out.h5ad", *options)
    assert (code, errors) == (0, "")
    asked = {"impute_as": "run2", "coverage": 0.8, "false_positive_rate": 0.2, "certainty": 0.99}
    expected = LocalReference(toy_folder).map(adata, "adt", "counts", samples=4, background="include", **asked)
    n_unknown = (expected.obs["totalanvi_label"] == "unknown").sum()
    assert n_unknown > 0
    assert f"Unknown:    {n_unknown} cells, more novel than all but 20.00% of cells like the reference's\n" in printed
    assert_same_annotations(anndata.read_h5ad(tmp_path / "out.h5ad"), expected)
    code, _, _ = run(
        "map",
        toy_folder,
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
    expected = LocalReference(toy_folder).map(adata, "none", "counts", impute=False, keep_unknown_labels=True)
    assert_same_annotations(anndata.read_h5ad(tmp_path / "two.h5ad"), expected)


@pytest.mark.parametrize("name", ["out.h5ad", "out.h5mu", "out.parquet", "out/"])
def test_a_mudata_maps_into_every_format(run: Run, toy_folder: Path, tmp_path: Path, name: str) -> None:
    query = write_mudata(toy_mudata(n_cells=15, n_rna_only=3, n_protein_only=2), tmp_path / "query.h5mu")
    code, printed, errors = run("map", toy_folder, query, "-o", f"{tmp_path}/{name}", "--batch-size", "4")
    assert code == 0
    assert "Cells:      13 mapped, 10 of them with proteins; 2 without RNA\n" in printed
    assert "Warning: 2 of 15 cells have no RNA and cannot be mapped" in errors
    assert ("Warning: Left out of" in errors) == (name == "out.h5ad")
    if name == "out.h5ad":
        assert anndata.read_h5ad(tmp_path / name).n_obs == 13
    elif name == "out.h5mu":
        assert mudata.read_h5mu(tmp_path / name).obs["totalanvi_label"].notna().sum() == 13
    else:
        assert pq.read_table(tmp_path / name).num_rows == 15


@pytest.mark.parametrize(
    ("options", "left_out"),
    [((), "'adt' (the measured proteins), 'spliced'"), (("--proteins", "none"), "'adt', 'spliced'")],
    ids=["measured", "not read"],
)
def test_modalities_that_an_h5ad_leaves_out_are_told(
    run: Run, toy_folder: Path, tmp_path: Path, options: tuple[str, ...], left_out: str
) -> None:
    parts = toy_mudata(n_cells=15).mod
    query = write_mudata(make_mudata(**parts, spliced=parts["rna"].copy()), tmp_path / "query.h5mu")
    code, _, errors = run("map", toy_folder, query, "-o", tmp_path / "out.h5ad", *options)
    assert code == 0
    assert (
        f"Warning: Left out of 'out.h5ad', which holds one modality, 'rna': {left_out}. Write 'out.h5mu' to keep all "
        "of them."
    ) in errors.splitlines()
    assert "protein_expression" not in anndata.read_h5ad(tmp_path / "out.h5ad").obsm


def test_warnings_go_to_stderr(run: Run, toy_folder: Path, tmp_path: Path) -> None:
    adata = toy_query(9)[:, :30].copy()
    adata.obsm["protein_expression"].columns = [f"unknown{i}" for i in range(6)]
    code, printed, errors = run(
        "map", toy_folder, write_anndata(adata, tmp_path / "q.h5ad"), "-o", tmp_path / "o.parquet"
    )
    assert code == 0
    assert errors.count("Warning: ") == 4
    assert "RNA cannot predict 'IgG1'" in errors
    assert "of what the model has learned from genes, less than 80%" in errors
    assert "None of the query's 6 proteins" in errors
    assert "more novel than cells like the reference's" in errors
    assert "30 of 60 genes" in printed
    assert "0 of 6 proteins" in printed


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal")
def test_a_terminal_shows_progress_on_stderr(toy_folder: Path, query: Path, tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    command = [CONSOLE_SCRIPT, "map", toy_folder, query, "-o", tmp_path / "out.parquet", "--batch-size", "3"]
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
    assert b"23/23" in shown
    assert printed.startswith("Cells:      23 mapped")


# info


def test_info_in_words_and_as_json(run: Run, toy_folder: Path) -> None:
    code, printed, _ = run("info", toy_folder)
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
    code, printed, _ = run("info", toy_folder, "--json")
    assert code == 0
    assert ReferenceInfo.model_validate(json.loads(printed)) == LocalReference(toy_folder).info()


def test_info_of_nothing_is_one_clear_error(run: Run, tmp_path: Path) -> None:
    code, printed, errors = run("info", tmp_path)
    assert (code, printed) == (2, "")
    assert errors.startswith("Error: ")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("job", [False, True])
def test_counts_that_were_found_elsewhere_than_in_x_are_told(
    run: Run, toy_folder: Path, tmp_path: Path, job: bool
) -> None:
    adata = toy_query(9)
    adata.layers["counts"] = adata.X.copy()
    query = write_anndata(adata, tmp_path / "plain.h5ad")
    adata.X = np.log1p(adata.X)
    layered = write_anndata(adata, tmp_path / "layered.h5ad")
    words = ["--part-cells", 5] if job else []
    said = "layered: " if job else ""
    note = (
        f"Note: {said}RNA counts were read from layer 'counts', where they were found; --layer names another place.\n"
    )
    assert run("map", toy_folder, layered, "-o", f"{tmp_path}/found/", *words)[2] == note
    assert run("map", toy_folder, layered, "-o", f"{tmp_path}/named/", *words, "--layer", "counts")[2] == ""
    assert run("map", toy_folder, query, "-o", f"{tmp_path}/plain/", *words)[2] == ""
