"""The page that a checkpoint of a trained model brings: what was trained on what, and how it went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from totalanvi.pages.citation import citation
from totalanvi.pages.elements import Child, element
from totalanvi.pages.matrix import matrix
from totalanvi.pages.page import Section, figure, page, paragraph
from totalanvi.pages.tables import Cell, count, facts, names_list, table
from totalanvi.training.checkpoints.training_curves import training_section

if TYPE_CHECKING:
    from totalanvi.training.checkpoints.checkpoint import Checkpoint

__all__ = ["panel_section", "training_page"]


def training_page(checkpoint: Checkpoint) -> str:
    """Write the page.

    Parameters
    ----------
    checkpoint
        Of a trained model.
    """
    training, registry = checkpoint.training, checkpoint.registry
    n_cells, n_labelled = int(training.get("n_cells", 0)), int(training.get("n_labelled", 0))
    lead = (
        f"{checkpoint.kind} was trained on {count(n_cells)} cells of {count(len(registry.batches))} "
        f"{'batch' if len(registry.batches) == 1 else 'batches'}, {count(n_labelled)} of them labelled with "
        f"{count(len(registry.labels))} cell types."
    )
    sections = [
        Section("What was trained", [facts(_facts(checkpoint)), *_names(checkpoint)]),
        training_section(checkpoint.history),
        panel_section(registry.batches, registry.proteins, registry.batch_proteins),
        Section(
            "What comes next",
            [
                paragraph(
                    "How well the model labels and imputes cells that it was not trained on is measured when it is "
                    "exported, with what will be served: the bundle's own page has confusion, calibration, label sets "
                    "and proteins."
                ),
                element("p", element("code", "totalanvi export CHECKPOINT/ -o BUNDLE/")),
            ],
        ),
        Section("How to cite", [citation(checkpoint.versions.get("totalanvi", "unknown"))]),
    ]
    return page(f"Trained model: {checkpoint.kind}", [paragraph(lead, class_="lead")], sections)


def panel_section(batches: Sequence[str], proteins: Sequence[str], measured: Sequence[Sequence[bool]]) -> Section:
    """Show which batch measured which protein.

    Parameters
    ----------
    batches, proteins
        Their names.
    measured
        (batches, proteins).
    """
    title = "Who measured what"
    if all(all(row) for row in measured):
        return Section(title, [paragraph("Every batch measured every protein.")])
    values = np.array(measured, dtype=np.float64).reshape(len(batches), len(proteins))
    rows: list[list[Cell]] = [
        [name, int(row.sum()), ", ".join(protein for protein, there in zip(proteins, row, strict=True) if not there)]
        for name, row in zip(batches, values, strict=True)
    ]
    shown = figure(
        matrix(values, batches, proteins, "Which batch measured which protein"),
        "Which batch measured which protein: dark where it did.",
        table(["Batch", "Proteins", "Not measured"], rows),
        scroll=True,
    )
    return Section(title, [shown])


def _facts(checkpoint: Checkpoint) -> list[tuple[str, Child]]:
    training, registry = checkpoint.training, checkpoint.registry
    options: Mapping[str, Any] = training.get("options", {})
    pairs: list[tuple[str, Child]] = [
        ("Model", checkpoint.kind),
        ("Cells", count(int(training.get("n_cells", 0)))),
        ("Labelled", count(int(training.get("n_labelled", 0)))),
        ("Genes", count(len(registry.genes))),
        ("Proteins", count(len(registry.proteins))),
        ("Epochs", f"{training.get('n_epochs', 'unknown')} of at most {options.get('max_epochs', 'unknown')}"),
        ("Readout", "no" if checkpoint.readout is None else "yes"),
        ("Data's SHA-256", element("span", str(training.get("data_digest", "unknown")), class_="digest")),
        ("Versions", ", ".join(f"{name} {version}" for name, version in checkpoint.versions.items())),
    ]
    if checkpoint.split is not None:
        split = checkpoint.split
        shown = f"{count(len(split.train))} trained, {count(len(split.validation))} were held out for validation"
        pairs.insert(2, ("Of these", shown))
    return pairs


def _names(checkpoint: Checkpoint) -> list[Child]:
    registry = checkpoint.registry
    lists = (("Cell types", registry.labels), ("Batches", registry.batches), ("Proteins", registry.proteins))
    options = [f"{name}: {value}" for name, value in checkpoint.training.get("options", {}).items()]
    return [*(names_list(title, names) for title, names in lists), names_list("Options of training", options)]
