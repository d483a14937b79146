"""From a checkpoint to a bundle: the one function that writes what `totalanvi.serving.bundles.bundle` reads."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from totalanvi.export.ablation import ablate_genes, thresholds_of
from totalanvi.export.beforehand import judged_name
from totalanvi.export.device_graphs import write_device_graph
from totalanvi.export.draft import draft_bundle
from totalanvi.export.errors import ExportError
from totalanvi.export.gene_weight import gene_weight
from totalanvi.export.graphs import graphs_of
from totalanvi.export.held_out import evaluate, landmark_latent
from totalanvi.export.model_card import model_card
from totalanvi.export.onnx import export_graph
from totalanvi.export.parents import read_parents
from totalanvi.export.parity import check_parity
from totalanvi.export.precision.cost import with_sizes
from totalanvi.export.precision.known import FULL, checked_precision
from totalanvi.export.precision.lowering import lowered
from totalanvi.export.readout_arrays import with_novelty_scale, with_shares
from totalanvi.export.reference_cells import aligned, gene_share, joined, protein_share
from totalanvi.export.reference_map import map_coordinates
from totalanvi.export.reference_page import ReferenceReport, reference_page
from totalanvi.export.source import Source, read_source
from totalanvi.export.target import make_parents
from totalanvi.serving.bundles.bundle import Bundle, bundle_files
from totalanvi.serving.bundles.files import hash_files
from totalanvi.serving.bundles.graphs import device_graphs
from totalanvi.serving.bundles.manifest import CARD_FILE, REPORT_FILE, UNKNOWN, FileRecord
from totalanvi.serving.bundles.manifest_file import write_manifest
from totalanvi.serving.bundles.reference_arrays import ReferenceArrays
from totalanvi.serving.bundles.signature import read_signing_key, sign_bundle
from totalanvi.serving.engine.engine import Engine
from totalanvi.serving.mapped import MapOptions
from totalanvi.serving.outputs.output import OutputPlan, staged

__all__ = ["export_bundle"]

_N_VERIFIED = 64
_VERIFIED_WITHIN = 1e-3


def export_bundle(
    checkpoint: str | Path,
    output: str | Path,
    name: str | None = None,
    version: str | None = None,
    overwrite: bool = False,
    *,
    parents: str | Path | None = None,
    licence: str = "unknown",
    report: Callable[[str], None] | None = None,
    sign: str | Path | None = None,
    precision: str = FULL,
) -> Path:
    """Export a checkpoint as a bundle, calibrated and proven to compute what torch computes.

    Parameters
    ----------
    checkpoint
        Folder that ``train`` wrote.
    output
        Folder to make. It appears when all of it is there and was opened once.
    name
        Name of the reference: small letters, digits, ``.``, ``-`` and ``_``; the output folder's by default.
    version
        Version of the reference; by default the first digits of a digest of what is in it.
    overwrite
        Replace a bundle that is there.
    parents
        CSV table of the labels' parents; see `totalanvi.export.parents`.
    licence
        Of the reference, for its model card: a short name as hubs list them, such as ``"cc-by-4.0"``.
    report
        Called with a line about each step.
    sign
        File of a private key to vouch for the bundle with; see `totalanvi.serving.bundles.signature`.
    precision
        What weights are stored and products computed in: ``"float32"``, ``"float16"``, ``"bfloat16"`` or ``"int8"``.
        What less than float32 costs is measured on held-out cells and kept in the manifest; all that is calibrated is
        calibrated for it.

    Returns
    -------
    The bundle's folder.

    Raises
    ------
    ExportError
        When the checkpoint cannot be served, the output may not be written, the parents do not fit the labels, the
        precision is unknown, or a graph does not compute what torch computes.
    CheckpointError
        When the checkpoint is not whole.
    SettingsError
        When `sign` is no such key.

    Examples
    --------
    >>> export_bundle("checkpoint/", "bundle/", name="pbmc")  # doctest: +SKIP
    PosixPath('bundle')
    """
    say = report or (lambda line: None)
    target = Path(output)
    less_than_full = checked_precision(precision)
    table, key_file = None if parents is None else Path(parents), None if sign is None else Path(sign)
    name = judged_name(
        Path(checkpoint), target, name, version, overwrite, licence, parents=table, sign=key_file, precision=precision
    )
    key = None if key_file is None else read_signing_key(key_file)
    source = read_source(Path(checkpoint))
    if UNKNOWN in source.registry.labels:
        say(f"Renaming the label {UNKNOWN!r}, which is what novel cells are called")
    hierarchy = {} if table is None else read_parents(table, source.registry.labels)
    make_parents(target)
    with staged(OutputPlan(target, "parts")) as folder:
        folder.mkdir()
        draft = draft_bundle(folder, source, name, hash_files(folder, _write_graphs(folder, source, say)))
        everyone = joined(source.sample.landmarks, source.sample.held_out)
        say("Comparing with torch")
        parity = check_parity(draft, source.module, everyone, source.readout)
        in_float32, cost = draft.manifest.files, None
        if less_than_full is not None:
            in_float32 = in_float32 | _save_first_layers(draft)
            draft, cost = lowered(draft, less_than_full, source.sample, say)
        draft = with_shares(draft, everyone)
        say("Drawing the map")
        placed = replace(draft, reference=_reference_arrays(source, landmark_latent(draft, source.sample.landmarks)))
        say("Mapping the reference's own cells to calibrate")
        placed = with_novelty_scale(placed, source.sample.held_out_or_landmarks)
        evaluation = evaluate(placed, source.sample)
        say("Taking genes away from the reference's own cells")
        ablation = ablate_genes(Engine(placed, provider="cpu"), source.sample)
        placed.reference.save(folder, draft.manifest)
        evaluation.arrays.save(folder, draft.manifest)
        if placed.readout is not None:
            placed.readout.save(folder, draft.manifest)
        _save_first_layers(draft)
        served = dict.fromkeys((*bundle_files(readout=source.readout is not None), *draft.manifest.files))
        files = hash_files(folder, served)
        manifest = draft.manifest.model_copy(
            update={
                "version": version or _content_version(files, hierarchy),
                "calibration": evaluation.calibration,
                "parents": hierarchy,
                "confidence": evaluation.confidence,
                "protein_reliability": evaluation.reliability,
                "thresholds": thresholds_of(ablation),
                "parity": parity,
                "precision": None if cost is None else with_sizes(cost, in_float32, files),
                "files": files,
            }
        )
        for_people = ReferenceReport(manifest, placed.reference, evaluation.figures, source.history)
        (folder / REPORT_FILE).write_text(reference_page(for_people), encoding="utf-8")
        (folder / CARD_FILE).write_text(model_card(manifest, licence), encoding="utf-8")
        files = files | hash_files(folder, (CARD_FILE, REPORT_FILE))
        write_manifest(folder, manifest.model_copy(update={"files": files}))
        if key is not None:
            sign_bundle(folder, key)
        say("Opening what was written")
        _require_served(folder, source)
    return target


def _write_graphs(folder: Path, source: Source, say: Callable[[str], None]) -> list[str]:
    """Write the model's graphs, then those that only a device is given; return their files."""
    readout = source.readout
    graphs = graphs_of(source.module, None if readout is None else readout.network)
    for graph in graphs:
        say(f"Writing {graph.signature.file}")
        export_graph(graph, folder)
    on_device = device_graphs(readout=readout is not None)
    for signature in on_device:
        say(f"Writing {signature.file}")
        write_device_graph(signature, len(source.registry.genes), folder)
    return [*(graph.signature.file for graph in graphs), *(graph.file for graph in on_device)]


def _save_first_layers(draft: Bundle) -> dict[str, FileRecord]:
    for layer in draft.first_layers:
        layer.save(draft.path, draft.manifest)
    return hash_files(draft.path, [layer.FILE for layer in draft.first_layers])


def _reference_arrays(source: Source, latent: npt.NDArray[np.float32]) -> ReferenceArrays:
    everyone = joined(source.sample.landmarks, source.sample.held_out)
    return ReferenceArrays(
        latent=latent,
        label=source.sample.landmarks.label.astype(np.int32),
        coordinates=map_coordinates(latent),
        gene_share=gene_share(everyone),
        gene_weight=gene_weight(source.module, everyone),
        protein_share=protein_share(everyone),
    )


def _content_version(files: Mapping[str, FileRecord], parents: Mapping[str, str]) -> str:
    digests = "".join(files[name].sha256 for name in sorted(files))
    digests += "".join(f"{name}\n{parent}\n" for name, parent in sorted(parents.items()))
    return hashlib.sha256(digests.encode()).hexdigest()[:12]


def _require_served(folder: Path, source: Source) -> None:
    """Open the bundle as a server would, and map some landmarks to where it says that they are."""
    bundle = Bundle.open(folder)
    landmarks = source.sample.landmarks[:_N_VERIFIED]
    mapped = Engine(bundle, provider="cpu").run(aligned(landmarks), MapOptions())
    difference = float(np.abs(mapped.latent - bundle.reference.latent[:_N_VERIFIED]).max())
    if not difference <= _VERIFIED_WITHIN:
        raise ExportError(
            f"Expected the bundle to map its landmarks to where they are, found them {difference:.3g} away; nothing "
            "was exported. This is a bug: please report it."
        )
