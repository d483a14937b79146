"""A small real bundle, made with `onnx.helper` alone, and queries that it labels correctly.

Each label has marker genes and one marker protein. The encoder averages the scaled log counts of each label's markers,
the classifier reads the label off, the decoder turns it into the marker protein's level: a model small enough to check
by hand, with the graph signatures, batches and panels of a trained one.

>>> from tests.support.toy_bundle import TOY, toy_query, write_toy_bundle
>>> folder = write_toy_bundle(tmp_path / "toy")          # doctest: +SKIP
>>> query = toy_query(n_cells=50, seed=1)                # AnnData, obs["truth"], obsm["protein_expression"]
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pandas as pd
from anndata import AnnData
from scipy import sparse
from tests.support.toy import TOY
from tests.support.toy_graphs import toy_first_layer, toy_graphs

from totalanvi.serving.bundles.bundle import bundle_files
from totalanvi.serving.bundles.calibration_arrays import CalibrationArrays
from totalanvi.serving.bundles.confidence_figures import ModeConfidence, ProteinReliability
from totalanvi.serving.bundles.files import hash_files
from totalanvi.serving.bundles.first_layer import EncoderFirst
from totalanvi.serving.bundles.graphs import ENCODER, device_graphs
from totalanvi.serving.bundles.manifest import (
    MANIFEST_FILE,
    SCHEMA_VERSION,
    Calibration,
    Genes,
    Manifest,
    Parity,
    Provenance,
)
from totalanvi.serving.bundles.manifest_file import write_manifest
from totalanvi.serving.bundles.modes import MODES, Mode
from totalanvi.serving.bundles.reference_arrays import ReferenceArrays
from totalanvi.serving.bundles.thresholds import Thresholds
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.intervals import COVERAGES

__all__ = ["TOY", "sign", "toy_cells", "toy_query", "write_toy_bundle"]

Floats = npt.NDArray[np.float32]

N_LANDMARKS = 150
N_HELD_OUT = 80
TEMPERATURES: dict[Mode, float] = {"protein": 0.8, "part": 1.1, "rna": 1.5}


def toy_cells(
    n_cells: int = 40, seed: int = 1, measured_share: float = 0.5
) -> tuple[AlignedCells, npt.NDArray[np.int64]]:
    """Simulate aligned cells and their true label indices; the first of them have proteins."""
    rna, protein, truth = _simulate(n_cells, seed)
    measured = np.zeros(protein.shape, dtype=bool)
    measured[: round(n_cells * measured_share)] = True
    cells = AlignedCells(
        rna=sparse.csr_matrix(rna), library=rna.sum(axis=1), protein=np.where(measured, protein, 0), measured=measured
    )
    return cells, truth


def toy_query(n_cells: int = 40, seed: int = 1, proteins: bool = True) -> AnnData:
    """Simulate a query: raw CSR counts, ``obs["truth"]`` and, if asked for, ``obsm["protein_expression"]``."""
    rna, protein, truth = _simulate(n_cells, seed)
    names = [f"cell{i}" for i in range(n_cells)]
    query = AnnData(
        X=sparse.csr_matrix(rna),
        obs=pd.DataFrame({"truth": np.array(TOY.labels)[truth]}, index=names),
        var=pd.DataFrame({"gene_ids": TOY.ensembl_ids}, index=TOY.genes),
    )
    if proteins:
        query.obsm["protein_expression"] = pd.DataFrame(protein, index=names, columns=TOY.proteins)
    return query


def write_toy_bundle(
    folder: Path,
    name: str = "toy",
    version: str = "1",
    created: str = "2026-01-01T00:00:00Z",
    noise_seed: int = 7,
    parents: dict[str, str] | None = None,
) -> Path:
    """Write the bundle into a new folder and return it; with the toy's parents of labels unless others are given."""
    folder.mkdir(parents=True)
    for file, graph in toy_graphs().items():
        onnx.checker.check_model(graph, full_check=True)
        (folder / file).write_bytes(graph.SerializeToString())
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        name=name,
        version=version,
        created=created,
        genes=Genes(names=TOY.genes, ensembl_ids=TOY.ensembl_ids),
        proteins=TOY.proteins,
        labels=TOY.labels,
        parents=TOY.parents if parents is None else parents,
        batches=TOY.batches,
        protein_batches=TOY.protein_batches,
        n_latent=TOY.n_latent,
        input_transform="log1p_mean_scaled",
        calibration={mode: _calibration(t) for mode, t in TEMPERATURES.items()},
        confidence=dict.fromkeys(MODES, _CONFIDENCE),
        protein_reliability=[_reliability(name) for name in TOY.proteins],
        thresholds=Thresholds(gene_weight_warn=0.8, gene_weight_refuse=0.2),
        noise_seed=noise_seed,
        provenance=Provenance(
            data_digest="0" * 64, n_cells=1000, n_labelled=900, versions={"totalanvi": "0.1.0"}, model={}, training={}
        ),
        parity=[Parity(graph="encoder", output="latent", relative_error=1e-7, tolerance=1e-4, n_cells=64)],
        files={},
    )
    reference, calibration = _arrays(folder)
    reference.save(folder, manifest)
    calibration.save(folder, manifest)
    none = np.zeros(len(TOY.genes), dtype=np.float32), np.zeros(TOY.n_latent, dtype=np.float32)
    EncoderFirst(toy_first_layer(), *none).save(folder, manifest)
    files = hash_files(folder, (*bundle_files(readout=False), *(graph.file for graph in device_graphs(readout=False))))
    write_manifest(folder, manifest.model_copy(update={"files": files}))
    return folder


def sign(folder: Path) -> Path:
    """Make the manifest vouch for itself and the files as they are, after a test has changed some."""
    values = json.loads((folder / MANIFEST_FILE).read_bytes())
    del values["digest"]
    manifest = Manifest.model_validate_json(json.dumps(values))
    files = hash_files(folder, manifest.files)
    write_manifest(folder, manifest.model_copy(update={"files": files}))
    return folder


def _calibration(temperature: float) -> Calibration:
    return Calibration(
        temperature=temperature, n_cells=N_HELD_OUT, accuracy=0.98, log_loss=0.1, expected_calibration_error=0.02
    )


_CONFIDENCE = ModeConfidence(
    coverage=0.9,
    n_labelled=N_HELD_OUT,
    set_coverage=0.91,
    set_size=1.02,
    empty_sets=0.03,
    n_cells=N_HELD_OUT,
    false_positive_rate=0.01,
    novelty_threshold=0.5,
)


def _reliability(protein: str) -> ProteinReliability:
    """RNA predicts every protein but the control."""
    pearson = 0.1 if protein == "IgG1" else 0.85
    return ProteinReliability(n_cells=N_HELD_OUT, pearson=pearson, spearman=pearson - 0.05)


def _simulate(n_cells: int, seed: int) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(len(TOY.labels), size=n_cells)
    depth = rng.lognormal(sigma=0.3, size=(n_cells, 1))
    rna = rng.poisson(depth * np.where(TOY.markers[truth], 6.0, 0.6))
    level = np.full((n_cells, len(TOY.proteins)), 4.0)
    level[np.arange(n_cells), truth] = 90.0
    level[:, TOY.proteins.index("CD45")] = 60.0
    return rna.astype(np.float32), rng.poisson(level).astype(np.float32), truth


def _arrays(folder: Path) -> tuple[ReferenceArrays, CalibrationArrays]:
    """Encode simulated reference cells with the graph just written; distances and label scores by brute force."""
    session = onnxruntime.InferenceSession(folder / ENCODER.file, providers=["CPUExecutionProvider"])

    def encode(rna: Floats, protein: Floats, panel: npt.NDArray[np.generic]) -> Floats:
        feed = {
            "rna": rna,
            "library": rna.sum(axis=1, keepdims=True),
            "protein": protein * panel.astype(np.float32),
            "measured": np.broadcast_to(panel.astype(np.float32), protein.shape),
            "batch": np.zeros((len(rna), len(TOY.batches)), dtype=np.float32),
        }
        latent: Floats = session.run(["latent"], feed)[0]
        return latent

    rna, protein, truth = _simulate(N_LANDMARKS, seed=100)
    landmarks = encode(rna, protein, np.ones(1))
    held_rna, held_protein, held_truth = _simulate(N_HELD_OUT, seed=101)
    panels = {"protein": np.ones(len(TOY.proteins)), "part": np.arange(len(TOY.proteins)) < 3, "rna": np.zeros(1)}
    held_latent = {mode: encode(held_rna, held_protein, panel) for mode, panel in panels.items()}

    def novelty(latent: Floats) -> Floats:
        distances = np.linalg.norm(latent[:, None].astype(np.float64) - landmarks, axis=2)
        return np.sort(np.sort(distances, axis=1)[:, :15].mean(axis=1)).astype(np.float32)

    def label_scores(latent: Floats, temperature: float) -> Floats:
        logits = 12 * latent[:, : len(TOY.labels)].astype(np.float64) / temperature
        own = np.eye(len(TOY.labels), dtype=bool)[held_truth]
        others = np.log(np.where(own, 0, np.exp(logits)).sum(axis=1))
        return np.sort(others - logits[own]).astype(np.float32)

    # Two knots for each protein but the control: counts lie further from small expectations, on the log scale.
    knots = np.tile(np.float32([1.5, 4.0]), (2, len(TOY.proteins), 1))
    knots[:, TOY.proteins.index("IgG1")] = np.nan
    width = np.stack([0.8 * np.array(COVERAGES), 0.4 * np.array(COVERAGES)])
    angle = 2 * np.pi * truth / len(TOY.labels)
    jitter = np.random.default_rng(3).normal(scale=0.3, size=(N_LANDMARKS, 2))
    reference = ReferenceArrays(
        latent=landmarks,
        label=np.where(np.arange(N_LANDMARKS) % 10, truth, -1).astype(np.int32),
        coordinates=(np.stack([5 * np.cos(angle), 5 * np.sin(angle)], axis=1) + jitter).astype(np.float32),
        gene_weight=_gene_weight(),
        gene_share=(rna / rna.sum(axis=1, keepdims=True)).mean(axis=0).astype(np.float32),
        protein_share=(protein / protein.sum(axis=1, keepdims=True)).mean(axis=0).astype(np.float32),
    )
    calibration = CalibrationArrays(
        **{f"novelty_{mode}": novelty(latent) for mode, latent in held_latent.items()},
        **{f"conformal_{mode}": label_scores(held_latent[mode], t) for mode, t in TEMPERATURES.items()},
        interval_knots=knots,
        interval_low=(knots[..., None] - width).astype(np.float32),
        interval_high=(knots[..., None] + width).astype(np.float32),
    )
    return reference, calibration


def _gene_weight() -> Floats:
    """Markers weigh four times what other genes do."""
    weight = np.where(TOY.markers.any(axis=0), 4.0, 1.0)
    return (weight / weight.sum()).astype(np.float32)
