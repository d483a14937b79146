"""Queries of which only some cells have proteins: they are counted, and what RNA cannot predict is warned of."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
from anndata import AnnData
from tests.support.command_line import Run
from tests.support.queries import write_anndata
from tests.support.toy_bundle import toy_query

from totalanvi.serving.mapping.local import LocalReference

KEY = "protein_expression"
PLUG_IN = ("--samples", 1)
WARNING = (
    "8 of 20 cells have no proteins: theirs are imputed from RNA alone. RNA cannot predict 'IgG1': do not rely on the "
    "imputed values"
)


def some_with_proteins(n_cells: int = 20, n_without: int = 8) -> AnnData:
    """A query of which the first cells have no proteins."""
    query = toy_query(n_cells)
    query.obsm[KEY].iloc[:n_without] = 0
    return query


@pytest.fixture
def query(tmp_path: Path) -> Path:
    return write_anndata(some_with_proteins(), tmp_path / "query.h5ad")


def test_the_command_line_counts_and_warns(run: Run, toy_folder: Path, query: Path, tmp_path: Path) -> None:
    words = ("map", toy_folder, query, *PLUG_IN, "--batch-size", 7)
    code, printed, said = run(*words, "-o", tmp_path / "out.h5ad", "--report", tmp_path / "report.json")
    assert code == 0, said
    assert printed.startswith("Cells:      20 mapped, 12 of them with proteins\n")
    assert said.startswith(f"Warning: {WARNING}")
    cells = json.loads((tmp_path / "report.json").read_text())["cells"]
    assert cells == {"total": 20, "without_rna": 0, "with_proteins": 12}

    code, printed, said = run(*words, "-o", tmp_path / "labels.parquet", "--no-impute")
    assert code == 0, said
    assert printed.startswith("Cells:      20 mapped, 12 of them with proteins\n")
    assert "RNA cannot predict" not in said


@pytest.mark.parametrize("resumed", [False, True])
def test_a_job_counts_and_warns_in_whatever_run(
    run: Run, toy_folder: Path, query: Path, tmp_path: Path, resumed: bool
) -> None:
    words = ("map", toy_folder, query, "--resume", tmp_path / "scored", "--part-cells", 7, *PLUG_IN)
    for _ in range(1 + resumed):
        code, printed, said = run(*words)
    assert code == 0, said
    assert "Cells:      20 mapped, 12 of them with proteins\n" in printed
    assert said.startswith(f"Warning: query: {WARNING}")
    summary = json.loads((tmp_path / "scored" / "_summary.json").read_bytes())
    assert summary["n_with_proteins"] == summary["queries"][0]["n_with_proteins"] == 12


@pytest.mark.parametrize("n_without", [0, 20])
def test_all_and_none_need_no_count(run: Run, toy_folder: Path, tmp_path: Path, n_without: int) -> None:
    query = write_anndata(some_with_proteins(n_without=n_without), tmp_path / "query.h5ad")
    code, printed, said = run("map", toy_folder, query, *PLUG_IN, "-o", tmp_path / "out.parquet")
    assert code == 0
    assert printed.startswith("Cells:      20 mapped\n")
    assert ("20 of 20 cells have no proteins" in said) == (n_without == 20)


def test_python_warns_and_a_protein_that_the_query_lacks_is_warned_of_once(reference: LocalReference) -> None:
    query = some_with_proteins()
    with pytest.warns(UserWarning, match="8 of 20 cells have no proteins"):
        reference.map(query, samples=1)
    query.obsm[KEY] = query.obsm[KEY].drop(columns="IgG1")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        reference.map(query, samples=1)
    assert len([warning for warning in caught if "RNA cannot predict" in str(warning.message)]) == 1
