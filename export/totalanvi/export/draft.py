"""A bundle before it is calibrated and has a map: enough to run its engine, which both are made with."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import numpy as np

from totalanvi.export.first_layers import first_layers
from totalanvi.export.readout_arrays import readout_arrays
from totalanvi.export.served_genes import served_genes
from totalanvi.export.served_labels import served_labels
from totalanvi.export.source import Source
from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.calibration_arrays import CalibrationArrays
from totalanvi.serving.bundles.confidence_figures import ModeConfidence, ProteinReliability
from totalanvi.serving.bundles.manifest import SCHEMA_VERSION, Calibration, FileRecord, Manifest, Provenance
from totalanvi.serving.bundles.modes import MODES
from totalanvi.serving.bundles.reference_arrays import ReferenceArrays
from totalanvi.serving.bundles.thresholds import Thresholds

__all__ = ["draft_bundle"]

_PACKAGES = ("totalanvi", "torch", "onnx", "onnxscript", "numpy", "scipy")


def draft_bundle(folder: Path, source: Source, name: str, files: dict[str, FileRecord]) -> Bundle:
    """Describe a bundle whose graphs are there, but not yet its calibration and map.

    Parameters
    ----------
    folder
        Where the graphs are.
    source
        What they were made of.
    name
        Of the reference.
    files
        The graphs' own.
    """
    registry, training = source.registry, source.training
    uncalibrated = Calibration(temperature=1, n_cells=0, accuracy=None, log_loss=None, expected_calibration_error=None)
    unjudged = ModeConfidence(
        coverage=1,
        n_labelled=0,
        set_coverage=None,
        set_size=None,
        empty_sets=None,
        n_cells=0,
        false_positive_rate=0,
        novelty_threshold=0,
    )
    readout = None if source.readout is None else readout_arrays(source.readout)
    unmeasured = ProteinReliability(n_cells=0, pearson=None, spearman=None)
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        name=name,
        version="draft",
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        genes=served_genes(registry),
        proteins=list(registry.proteins),
        labels=served_labels(registry.labels),
        batches=list(registry.batches),
        protein_batches=[list(row) for row in registry.batch_proteins],
        n_latent=source.module.config.n_latent,
        input_transform="log1p_mean_scaled",
        calibration=dict.fromkeys(MODES, uncalibrated),
        confidence=dict.fromkeys(MODES, unjudged),
        protein_reliability=[unmeasured] * len(registry.proteins),
        thresholds=Thresholds(gene_weight_warn=0, gene_weight_refuse=0),
        provenance=Provenance(
            data_digest=training["data_digest"],
            n_cells=training["n_cells"],
            n_labelled=training["n_labelled"],
            versions=_versions(),
            model=source.module.config.to_dict(),
            training={**training, "versions": source.versions},
        ),
        parity=[],
        files=files,
    )
    unknown = CalibrationArrays.unknown(len(manifest.proteins))
    layers = first_layers(source.module, None if source.readout is None else source.readout.network)
    return Bundle(folder, manifest, _empty_reference(manifest), unknown, readout, layers, digest="")


def _empty_reference(manifest: Manifest) -> ReferenceArrays:
    """Return what the engine opens with before there is a map: one landmark."""
    return ReferenceArrays(
        latent=np.zeros((1, manifest.n_latent), np.float32),
        label=np.full(1, -1, np.int32),
        coordinates=np.zeros((1, 2), np.float32),
        gene_share=np.empty(0, np.float32),
        gene_weight=np.empty(0, np.float32),
        protein_share=np.empty(0, np.float32),
    )


def _versions() -> dict[str, str]:
    import onnxruntime

    # ONNX Runtime is installed under one of several names.
    return {name: metadata.version(name) for name in _PACKAGES} | {"onnxruntime": onnxruntime.__version__}
