"""What `map` warned of stands in every page about its output, whenever it is made and whatever the output is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anndata
import pyarrow.parquet as pq
import pytest
from tests.support.command_line import Run
from tests.support.pages import parse_page
from tests.support.queries import write_anndata
from tests.support.toy_bundle import toy_query

from totalanvi.serving.mapping.local import LocalReference
from totalanvi.serving.outputs.annotate import UNS_KEY
from totalanvi.serving.outputs.result_table import CELLS_KEY

PLUG_IN = ("--samples", 1)
FEW = "8 of 20 cells have no proteins: theirs are imputed from RNA alone. RNA cannot predict 'IgG1'"


@pytest.fixture
def query(tmp_path: Path) -> Path:
    """A query of which some cells have no proteins."""
    cells = toy_query(20)
    cells.obsm["protein_expression"].iloc[:8] = 0
    return write_anndata(cells, tmp_path / "query.h5ad")


def warnings_of(page: Path) -> list[str]:
    """Return what a page warns of."""
    notes = parse_page(page.read_text(encoding="utf-8")).all("div", role="note")
    return [item.text for note in notes for item in note.all("li")]


def reported(run: Run, output: Path, tmp_path: Path) -> list[str]:
    """Return what a page that is made of an output warns of."""
    page = tmp_path / "later.html"
    code, _, said = run("report", output, "-o", page, "--overwrite")
    assert code == 0, said
    return warnings_of(page)


@pytest.mark.parametrize("output", ["out.h5ad", "out.parquet", "out/"])
@pytest.mark.parametrize("options", [(), ("--impute-as", "run1"), ("--no-impute",)])
def test_a_page_made_later_has_the_warnings_of_the_mapping(
    run: Run, toy_folder: Path, query: Path, tmp_path: Path, output: str, options: Sequence[str]
) -> None:
    page = tmp_path / "page.html"
    words = ("map", toy_folder, query, *PLUG_IN, *options, "--batch-size", 7, "--report", page)
    code, _, said = run(*words, "-o", f"{tmp_path}/{output}")
    assert code == 0, said
    expected = warnings_of(page)
    assert any(FEW in warning for warning in expected) == (options != ("--no-impute",))
    assert any("did not measure" in warning for warning in expected) == ("--impute-as" in options)
    assert [line.removeprefix("Warning: ") for line in said.splitlines()] == expected
    assert reported(run, tmp_path / output, tmp_path) == expected


@pytest.mark.parametrize("options", [("--part-cells", 7), ("--copies",)])
def test_pages_of_a_job_have_them_too(
    run: Run, toy_folder: Path, query: Path, tmp_path: Path, options: Sequence[object]
) -> None:
    page, folder = tmp_path / "page.html", tmp_path / "scored"
    assert run("map", toy_folder, query, *PLUG_IN, "-o", tmp_path / "alone.h5ad", "--report", page)[0] == 0
    code, _, said = run("map", toy_folder, query, *PLUG_IN, "--resume", folder, *options)
    assert code == 0, said
    output = folder / "query"
    expected = warnings_of(page)
    assert any(FEW in warning for warning in expected)
    assert reported(run, output / "query.h5ad" if options == ("--copies",) else output, tmp_path) == expected


def test_what_python_wrote_has_them_too(
    run: Run, reference: LocalReference, toy_folder: Path, query: Path, tmp_path: Path
) -> None:
    with pytest.warns(UserWarning, match="did not measure|cells have no proteins") as caught:
        annotated = reference.map(query, samples=1, impute_as="run1")
    output = write_anndata(annotated, tmp_path / "out.h5ad")
    assert reported(run, output, tmp_path) == [str(warning.message) for warning in caught]


def test_outputs_without_them_are_read(run: Run, toy_folder: Path, tmp_path: Path) -> None:
    query = toy_query(20)
    query.obsm["protein_expression"] = query.obsm["protein_expression"].drop(columns="IgG1")
    query.obsm["protein_expression"].iloc[:8] = 0
    file = write_anndata(query, tmp_path / "lacking.h5ad")
    outputs = tmp_path / "new.h5ad", tmp_path / "new.parquet"
    for output in outputs:
        assert run("map", toy_folder, file, *PLUG_IN, "-o", output)[0] == 0
    expected = reported(run, outputs[0], tmp_path)
    assert any("RNA cannot predict 'IgG1'" in warning for warning in expected)

    # As earlier versions wrote them.
    annotated = anndata.read_h5ad(outputs[0])
    for key in ("imputation", "cells"):
        del annotated.uns[UNS_KEY][key]
    assert reported(run, write_anndata(annotated, tmp_path / "old.h5ad"), tmp_path) == expected

    # A table that was written again keeps the metadata of its schema alone.
    pq.write_table(pq.read_table(outputs[1]), tmp_path / "again.parquet")
    assert CELLS_KEY.encode() not in pq.read_metadata(tmp_path / "again.parquet").metadata
    assert reported(run, tmp_path / "again.parquet", tmp_path) == expected
