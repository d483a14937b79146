"""The page that a checkpoint brings."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from tests.support.pages import parse_page, references_elsewhere

from totalanvi.training import TOTALANVI
from totalanvi.training.checkpoints.checkpoint import Checkpoint, read_checkpoint
from totalanvi.training.checkpoints.report import training_page

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def saved(checkpoint: Path) -> Checkpoint:
    return read_checkpoint(checkpoint)


def test_it_says_what_was_trained(checkpoint: Path, saved: Checkpoint) -> None:
    page = parse_page((checkpoint / "report.html").read_text(encoding="utf-8"))
    assert references_elsewhere(page) == []
    facts = dict(page.section("What was trained").rows())
    assert facts["Cells"] == "400"
    assert facts["Labelled"] == "360"
    assert facts["Of these"] == "280 trained, 120 were held out for validation"
    assert facts["Readout"] == "yes"
    assert facts["Data's SHA-256"] == saved.training["data_digest"]
    assert facts["Epochs"] == "15 of at most 15"
    lists = {summary.text for summary in page.section("What was trained").all("summary")}
    assert {"Cell types (4)", "Batches (2)", "Proteins (12)"} <= lists


def test_its_curves_are_the_history(checkpoint: Path, saved: Checkpoint) -> None:
    section = parse_page((checkpoint / "report.html").read_text(encoding="utf-8")).section("Training curves")
    head, *rows = section.rows()
    assert head == ["Epoch", "training cells", "held-out cells"]
    for column, name in ((1, "elbo_train"), (2, "elbo_validation")):
        assert [float(row[column].replace(",", "")) for row in rows] == pytest.approx(
            list(saved.history[name].values()), rel=5e-3
        )
    accuracy = section.all("table")[2].all("tr")[-1]
    assert [float(cell.text) for cell in accuracy.all("td")] == pytest.approx(
        [saved.history[name]["14"] for name in ("train_accuracy", "validation_accuracy")], abs=5e-4
    )


def test_panels_of_batches_are_shown(saved: Checkpoint) -> None:
    measured = (saved.registry.batch_proteins[0], (*(False,) * 3, *saved.registry.batch_proteins[1][3:]))
    registry = dataclasses.replace(saved.registry, batch_proteins=measured)
    section = parse_page(training_page(dataclasses.replace(saved, registry=registry))).section("Who measured what")
    assert [row[1] for row in section.rows()[1:]] == ["12", "9"]
    assert section.rows()[2][2] == ", ".join(saved.registry.proteins[:3])


def test_names_stay_text_and_losses_may_be_no_numbers(saved: Checkpoint) -> None:
    names = tuple(f"{HOSTILE} {name}" for name in saved.registry.labels)
    history = {"elbo_train": {"0": float("nan"), "1": float("inf")}, "elbo_validation": {"0": float("nan")}}
    changed = dataclasses.replace(
        saved, registry=dataclasses.replace(saved.registry, labels=names), history=history, kind=HOSTILE
    )
    page = parse_page(training_page(changed))
    assert references_elsewhere(page) == []
    assert HOSTILE in page.all("h1")[0].text
    assert names[0] in page.section("What was trained").text
    assert page.section("Training curves").rows()[1][1] == "not known"


def test_a_model_that_was_not_trained_has_none(checkpoint: Path, tmp_path: Path) -> None:
    model = TOTALANVI.load(checkpoint)
    model.history = {}
    model.save(tmp_path / "fresh")
    assert not (tmp_path / "fresh" / "report.html").exists()
