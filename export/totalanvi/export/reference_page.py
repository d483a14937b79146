"""The page that a bundle brings: what the reference is, how it was trained, and how good it is on held-out cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from totalanvi.export.certainty_sections import calibration_section, confusion_section, coverage_section
from totalanvi.export.held_out_figures import HeldOutFigures
from totalanvi.export.precision.told import precision_section
from totalanvi.pages.citation import citation
from totalanvi.pages.elements import Child, element
from totalanvi.pages.page import Section, figure, page, paragraph
from totalanvi.pages.palette import ranked_styles
from totalanvi.pages.plots import Axis, Curve, curves
from totalanvi.pages.scatter import Group, cell_map
from totalanvi.pages.tables import Cell, count, facts, names_list, share, table
from totalanvi.serving.bundles.manifest import Manifest
from totalanvi.serving.bundles.modes import Mode
from totalanvi.serving.bundles.reference_arrays import ReferenceArrays
from totalanvi.serving.report.protein_table import protein_table
from totalanvi.training.checkpoints.report import panel_section
from totalanvi.training.checkpoints.training_curves import History, training_section

__all__ = ["ReferenceReport", "reference_page"]


@dataclass(frozen=True, eq=False)
class ReferenceReport:
    """What is said of a bundle to people.

    Parameters
    ----------
    manifest
        Its manifest, but for the records of the page and of the card themselves.
    reference
        Its map.
    figures
        Of held-out cells, by query mode.
    history
        How training went.
    """

    manifest: Manifest
    reference: ReferenceArrays
    figures: Mapping[Mode, HeldOutFigures]
    history: History


def reference_page(report: ReferenceReport) -> str:
    """Write the page.

    Parameters
    ----------
    report
        What to say.
    """
    manifest = report.manifest
    provenance = manifest.provenance
    lead = (
        f"A reference of {count(provenance.n_cells)} cells, {count(provenance.n_labelled)} of them labelled with "
        f"{count(len(manifest.labels))} cell types, with {count(len(manifest.genes.names))} genes and "
        f"{count(len(manifest.proteins))} proteins. Queries are mapped to it with or without them.{_measured(report)}"
    )
    sections = [
        Section("What it is", [facts(_facts(manifest)), *_names(manifest)]),
        training_section(report.history),
        confusion_section(manifest, report.figures),
        calibration_section(manifest, report.figures),
        coverage_section(manifest, report.figures),
        _protein_section(manifest),
        panel_section(manifest.batches, manifest.proteins, manifest.protein_batches),
        _gene_section(manifest),
        _map_section(manifest, report.reference),
        _parity_section(manifest),
        *([] if manifest.precision is None else [precision_section(manifest.precision)]),
        Section(
            "How to cite",
            [citation(provenance.versions.get("totalanvi", "unknown"), (f"The reference {_title(manifest)}",))],
        ),
    ]
    return page(f"Reference: {_title(manifest)}", [paragraph(lead, class_="lead")], sections)


def _measured(report: ReferenceReport) -> str:
    if not any(figures.confusion.any() for figures in report.figures.values()):
        return " No labelled cell was held out of training, so how good its labels are was not measured."
    return " Figures are of cells that training did not see, mapped by the engine that serves."


def _title(manifest: Manifest) -> str:
    return f"{manifest.name} {manifest.version}"


def _facts(manifest: Manifest) -> list[tuple[str, Child]]:
    provenance = manifest.provenance
    return [
        ("Name", manifest.name),
        ("Version", manifest.version),
        ("Made", manifest.created),
        ("Trained on", f"{count(provenance.n_cells)} cells, {count(provenance.n_labelled)} of them labelled"),
        ("Data's SHA-256", element("span", provenance.data_digest, class_="digest")),
        ("Epochs", str(provenance.training.get("n_epochs", "unknown"))),
        ("Versions", ", ".join(f"{name} {version}" for name, version in provenance.versions.items())),
    ]


def _names(manifest: Manifest) -> list[Child]:
    parents = [f"{name} → {parent}" for name, parent in manifest.parents.items()]
    lists = (
        ("Cell types", manifest.labels),
        ("Parents of cell types", parents),
        ("Batches", manifest.batches),
        ("Proteins", manifest.proteins),
    )
    return [names_list(title, names) for title, names in lists]


def _protein_section(manifest: Manifest) -> Section:
    reliability = dict(zip(manifest.proteins, manifest.protein_reliability, strict=True))
    return Section(
        "Proteins from RNA",
        [
            paragraph(
                "How imputed and measured counts of held-out cells correlate, when the model is given RNA alone."
            ),
            protein_table(manifest.proteins, reliability),
        ],
    )


def _gene_section(manifest: Manifest) -> Section:
    thresholds = manifest.thresholds
    if (ablation := thresholds.ablation) is None:
        return Section("Fewer genes", [paragraph("Not measured: no cell that could tell has a label.")])
    weight = [point.gene_weight for point in ablation.curve]
    accuracy = [point.accuracy for point in ablation.curve]
    rows: list[list[Cell]] = [[share(one), share(other)] for one, other in zip(weight, accuracy, strict=True)]
    chart = curves(
        [Curve("accuracy from RNA alone", weight, accuracy, points=True)],
        Axis("share of the model's weight that the genes carry", 0, 1),
        Axis("accuracy", 0, 1),
        "Accuracy by the share of the model's learned weight that a query's genes carry",
    )
    cells = "held-out" if ablation.held_out else "training"
    caption = (
        f"{count(ablation.n_cells)} {cells} cells with fewer and fewer genes. A query is warned of below "
        f"{share(thresholds.gene_weight_warn)} and refused below {share(thresholds.gene_weight_refuse)}, where labels "
        "lose 2 and 10 points."
    )
    return Section("Fewer genes", [figure(chart, caption, table(["Weight", "Accuracy"], rows))])


def _map_section(manifest: Manifest, reference: ReferenceArrays) -> Section:
    counts = np.bincount(reference.label[reference.label >= 0], minlength=len(manifest.labels))
    groups = [
        Group(
            manifest.labels[code],
            reference.coordinates[reference.label == code],
            style,
            sign,
            f"({count(counts[code])})",
        )
        for code, sign, style in ranked_styles(counts)
    ]
    unlabelled = reference.coordinates[reference.label < 0]
    grey = "; grey, those without a label" if len(unlabelled) else ""
    title = f"Map of {count(len(reference.label))} cells of the reference, coloured by cell type"
    return Section(
        "Map",
        [
            figure(
                cell_map(groups, title, unlabelled if len(unlabelled) else None),
                f"{count(len(reference.label))} training cells that stand for all{grey}. Each colour and shape is a "
                "cell type, and its sign stands among its cells. Rare types are shown more often than they are.",
            )
        ],
    )


def _parity_section(manifest: Manifest) -> Section:
    rows: list[list[Cell]] = [
        [f"{row.graph} {row.output}", f"{row.relative_error:.1e}", f"{row.tolerance:.0e}", row.n_cells]
        for row in manifest.parity
    ]
    return Section(
        "Same as torch",
        [
            paragraph(
                "The largest relative error of each output against the trained model, through the serving engine"
                + ("." if manifest.precision is None else ", in float32, before precision was lowered.")
            ),
            table(["Output", "Error", "Allowed", "Cells"], rows),
        ],
    )
