"""The model card of a bundle: `README.md` as hubs show it, with what they read at its head."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from totalanvi.export.errors import TargetError
from totalanvi.export.precision.told import precision_text
from totalanvi.pages.citation import PAPERS, software_sentence
from totalanvi.pages.tables import count
from totalanvi.serving.bundles.confidence_figures import UNRELIABLE_BELOW
from totalanvi.serving.bundles.manifest import REPORT_FILE, UNKNOWN, Manifest
from totalanvi.serving.bundles.modes import MODE_NAMES

__all__ = ["checked_licence", "model_card"]

_TAGS = ("single-cell", "cite-seq", "rna", "protein", "label-transfer", "totalvi", "scanvi", "onnx", "biology")
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,62}")
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~$:@-])")
_NOT_KNOWN = "not measured"


def checked_licence(licence: str) -> str:
    """Return a licence as a hub takes it.

    Parameters
    ----------
    licence
        A short name, such as ``"cc-by-4.0"``; ``"unknown"`` where nobody said.

    Raises
    ------
    TargetError
        When it is something else.
    """
    if not _LICENCE.fullmatch(licence):
        raise TargetError(
            f"license: expected a short name as hubs list them, such as 'cc-by-4.0', found {licence!r}; choose one of "
            "theirs, or 'other'."
        )
    return licence


def model_card(manifest: Manifest, licence: str = "unknown") -> str:
    """Write the card.

    Parameters
    ----------
    manifest
        Of the bundle, but for the records of the card itself.
    licence
        Of the reference.
    """
    parts = [
        _front_matter(manifest, licence),
        f"# {_text(manifest.name)}, a CITE-seq reference",
        _what(manifest),
        "## How to use",
        _use(manifest),
        "## What it was trained on",
        _trained_on(manifest),
        "## Intended use",
        "To label cells of the tissues and conditions that the reference was made of, from RNA counts with or without "
        "counts of surface proteins, and to estimate proteins that were not measured. It is for research, not "
        "for diagnosis, and no substitute for looking at the cells.",
        "## Limits",
        _limits(manifest),
        "## How good it is",
        _figures(manifest),
        _proteins(manifest),
        *([] if manifest.precision is None else [precision_text(manifest.precision)]),
        f"`{REPORT_FILE}` beside this card has training curves, confusion, calibration, label sets and the map.",
        "## Citation",
        "\n".join(f"- {_text(one)}" for one in _cited(manifest)),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(manifest: Manifest, licence: str) -> str:
    # JSON is YAML, whatever is in the text.
    tags = "\n".join(f"- {tag}" for tag in _TAGS)
    name = json.dumps(f"{manifest.name} {manifest.version}")
    return f"---\nlicense: {licence}\nlibrary_name: totalanvi\ntags:\n{tags}\nmodel_name: {name}\n---"


def _what(manifest: Manifest) -> str:
    readout = " with a readout" if any(name.startswith("readout") for name in manifest.files) else ""
    n_cells, n_labels = count(manifest.provenance.n_cells), count(len(manifest.labels))
    return (
        f"Version {_text(manifest.version)}, of {_text(manifest.created)}. A TotalANVI model{readout} as ONNX graphs. "
        f"It maps single cells, with or without proteins, onto a reference of {n_cells} cells and gives each one of "
        f"{n_labels} labels or `{UNKNOWN}`, a calibrated confidence, how novel it looks, its place on the reference's "
        f"map, and {count(len(manifest.proteins))} proteins."
    )


def _use(manifest: Manifest) -> str:
    return (
        "With the Python package `totalanvi` and its extra `serve`:\n\n"
        "```python\n"
        "from totalanvi.serving import load_reference\n\n"
        f'reference = load_reference("{manifest.name}/")  # the folder of this bundle\n'
        'annotated = reference.map("query.h5ad")\n'
        'annotated.obs["totalanvi_label"]\n'
        "```\n\n"
        "or on the command line, with a page about the result:\n\n"
        "```bash\n"
        f"totalanvi map {manifest.name}/ query.h5ad -o annotated.h5ad --report report.html\n"
        "```\n\n"
        "Counts must be raw. Opening the bundle verifies the digest of every file, this card included."
    )


def _trained_on(manifest: Manifest) -> str:
    provenance = manifest.provenance
    return "\n".join(
        [
            f"- Cells: {count(provenance.n_cells)}, {count(provenance.n_labelled)} of them labelled",
            f"- Batches ({len(manifest.batches)}): {_names(manifest.batches)}",
            f"- Labels ({len(manifest.labels)}): {_names(manifest.labels)}",
            f"- Proteins ({len(manifest.proteins)}): {_names(manifest.proteins)}",
            f"- Genes: {count(len(manifest.genes.names))}",
            f"- SHA-256 of the data: `{_code(provenance.data_digest)}`",
        ]
    )


def _limits(manifest: Manifest) -> str:
    thresholds = manifest.thresholds
    lines = [
        f"It knows no cell type but those listed. Other cells are called `{UNKNOWN}` when they look novel enough, and "
        "are given the likeliest known label when they do not.",
        "Confidence and label sets hold for cells like the reference's; on cells of another tissue, species, assay or "
        "batch they may be too sure.",
        "A query is treated as one of an unknown batch.",
    ]
    if thresholds.ablation is not None:
        lines.append(
            f"A query whose genes carry less than {thresholds.gene_weight_warn:.0%} of the model's learned weight is "
            f"warned of, and refused below {thresholds.gene_weight_refuse:.0%}."
        )
    rows = zip(manifest.proteins, manifest.protein_reliability, strict=True)
    if doubtful := [name for name, known in rows if not known.reliable]:
        lines.append(
            f"RNA cannot predict {_names(doubtful)} (correlation below {UNRELIABLE_BELOW:g}): their imputed values "
            "should not be relied on."
        )
    return "\n".join(f"- {line}" for line in lines)


def _figures(manifest: Manifest) -> str:
    rows = []
    for mode, found in manifest.calibration.items():
        sets = manifest.confidence[mode]
        figures = (found.accuracy, found.log_loss, found.expected_calibration_error, sets.set_coverage, sets.set_size)
        shown = (_NOT_KNOWN if value is None else f"{value:.3f}" for value in figures)
        rows.append(f"| {MODE_NAMES[mode]} | {count(found.n_cells)} | {' | '.join(shown)} |")
    coverage = next(iter(manifest.confidence.values())).coverage
    return (
        "Measured when the bundle was exported, on cells of the reference that training did not see, mapped by the "
        "engine that serves; cells of batches that were trained on, so others may do worse. Temperatures were fitted "
        f"to these cells; label sets, asked to hold the label of {coverage:.0%}, are cross-fitted on halves of them.\n"
        "\n"
        "| query | cells | accuracy | log-loss | calibration error | sets that hold the label | labels in a set |\n"
        "|---|---|---|---|---|---|---|\n" + "\n".join(rows)
    )


def _proteins(manifest: Manifest) -> str:
    rows = []
    for name, known in zip(manifest.proteins, manifest.protein_reliability, strict=True):
        figures = (known.pearson, known.spearman)
        shown = (_NOT_KNOWN if value is None else f"{value:.3f}" for value in figures)
        rows.append(f"| {_text(name)} | {count(known.n_cells)} | {' | '.join(shown)} |")
    return (
        "Proteins imputed from RNA alone against measured counts of held-out cells: Pearson's correlation of log "
        "counts, and Spearman's.\n\n| protein | cells | Pearson | Spearman |\n|---|---|---|---|\n" + "\n".join(rows)
    )


def _cited(manifest: Manifest) -> list[str]:
    version = manifest.provenance.versions.get("totalanvi", UNKNOWN)
    return [f"The reference {manifest.name}, version {manifest.version}", software_sentence(version), *map(str, PAPERS)]


def _names(names: Sequence[str]) -> str:
    return ", ".join(map(_text, names))


def _text(words: str) -> str:
    """Escape what Markdown, or HTML in it, would take for something else."""
    plain = " ".join(words.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", plain)


def _code(words: str) -> str:
    return words.replace("`", "").replace("\n", " ")
