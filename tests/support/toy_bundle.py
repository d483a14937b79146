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
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pandas as pd
from anndata import AnnData
from onnx import TensorProto, helper, numpy_helper
from scipy import sparse

from totalanvi.serving.bundle import bundle_files
from totalanvi.serving.bundle_files import hash_files
from totalanvi.serving.calibration_arrays import CalibrationArrays
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.confidence_figures import ModeConfidence, ProteinReliability
from totalanvi.serving.first_layer import EncoderFirst
from totalanvi.serving.intervals import COVERAGES
from totalanvi.serving.manifest import (
    CLASSIFIER,
    ENCODER,
    ENCODER_REST,
    MANIFEST_FILE,
    PROTEINS,
    SCHEMA_VERSION,
    Calibration,
    Genes,
    Manifest,
    Parity,
    Provenance,
)
from totalanvi.serving.manifest_file import write_manifest
from totalanvi.serving.modes import MODES, Mode
from totalanvi.serving.reference_arrays import ReferenceArrays
from totalanvi.serving.thresholds import Thresholds

Floats = npt.NDArray[np.float32]

N_LANDMARKS = 150
N_HELD_OUT = 80
TEMPERATURES: dict[Mode, float] = {"protein": 0.8, "part": 1.1, "rna": 1.5}


@dataclass(frozen=True)
class Toy:
    """Names of the toy reference, in model order."""

    labels: list[str] = field(default_factory=lambda: ["B cell", "CD4 T", "CD8 T", "NK"])
    genes: list[str] = field(default_factory=lambda: [f"GENE{i:03d}" for i in range(60)])
    proteins: list[str] = field(default_factory=lambda: ["CD19", "CD4", "CD8a", "CD56", "CD45", "IgG1"])
    batches: list[str] = field(default_factory=lambda: ["run1", "run2"])

    @property
    def parents(self) -> dict[str, str]:
        """T cells, and lymphocytes, which all of them are."""
        return {"CD4 T": "T cell", "CD8 T": "T cell", "T cell": "lymphocyte", "B cell": "lymphocyte"}

    @property
    def ensembl_ids(self) -> list[str | None]:
        """One id per gene, none for the last."""
        return [*(f"ENSG{i:011d}" for i in range(len(self.genes) - 1)), None]

    @property
    def protein_batches(self) -> list[list[bool]]:
        """The first batch lacks the last protein, the second has all."""
        return [[True] * (len(self.proteins) - 1) + [False], [True] * len(self.proteins)]

    @property
    def n_latent(self) -> int:
        """One dimension per label and one that follows the depth of a cell."""
        return len(self.labels) + 1

    @property
    def markers(self) -> npt.NDArray[np.bool_]:
        """Which gene marks which label, (labels, genes): ten each, the rest mark none."""
        marks = np.zeros((len(self.labels), len(self.genes)), dtype=bool)
        for k in range(len(self.labels)):
            marks[k, 10 * k : 10 * (k + 1)] = True
        return marks


TOY = Toy()


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


def write_toy_bundle(folder: Path, name: str = "toy", version: str = "1") -> Path:
    """Write the bundle into a new folder and return it."""
    folder.mkdir(parents=True)
    for file, graph in _graphs().items():
        onnx.checker.check_model(graph, full_check=True)
        (folder / file).write_bytes(graph.SerializeToString())
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        name=name,
        version=version,
        created="2026-01-01T00:00:00Z",
        genes=Genes(names=TOY.genes, ensembl_ids=TOY.ensembl_ids),
        proteins=TOY.proteins,
        labels=TOY.labels,
        parents=TOY.parents,
        batches=TOY.batches,
        protein_batches=TOY.protein_batches,
        n_latent=TOY.n_latent,
        input_transform="log1p_mean_scaled",
        calibration={mode: _calibration(t) for mode, t in TEMPERATURES.items()},
        confidence=dict.fromkeys(MODES, _CONFIDENCE),
        protein_reliability=[_reliability(name) for name in TOY.proteins],
        thresholds=Thresholds(gene_weight_warn=0.8, gene_weight_refuse=0.2),
        noise_seed=7,
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
    EncoderFirst(_first_layer(), *none).save(folder, manifest)
    files = hash_files(folder, bundle_files(readout=False, first_layers=True))
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


def without_first_layers(folder: Path) -> Path:
    """Leave the complete graphs alone in a bundle, as they were before there were others."""
    values = json.loads((folder / MANIFEST_FILE).read_bytes())
    kept = bundle_files(readout=True, first_layers=False)
    for name in set(bundle_files(readout=True, first_layers=True)).difference(kept):
        if values["files"].pop(name, None):
            (folder / name).unlink()
    (folder / MANIFEST_FILE).write_text(json.dumps(values))
    return sign(folder)


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


def _graphs() -> dict[str, onnx.ModelProto]:
    n_labels, n_proteins = len(TOY.labels), len(TOY.proteins)
    rng = np.random.default_rng(5)
    # z: marker averages of log(1 + x / (1 + library / genes)), plus measured marker proteins, plus depth.
    protein_weight = np.zeros((n_proteins, TOY.n_latent))
    protein_weight[:n_labels, :n_labels] = 0.1 * np.eye(n_labels)
    depth_weight = np.zeros((1, TOY.n_latent))
    depth_weight[0, -1] = 0.05
    from_rna = [
        helper.make_node("Mul", ["library", "per_gene"], ["mean"]),
        helper.make_node("Add", ["mean", "one"], ["scale"]),
        helper.make_node("Div", ["rna", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "one"], ["shifted"]),
        helper.make_node("Log", ["shifted"], ["x"]),
        helper.make_node("MatMul", ["x", "gene_weight"], ["from_rna"]),
    ]
    rest = [
        helper.make_node("Add", ["protein", "one"], ["protein_shifted"]),
        helper.make_node("Log", ["protein_shifted"], ["protein_log"]),
        helper.make_node("Mul", ["protein_log", "measured"], ["y"]),
        helper.make_node("MatMul", ["y", "protein_weight"], ["from_protein"]),
        helper.make_node("Add", ["library", "one"], ["library_shifted"]),
        helper.make_node("Log", ["library_shifted"], ["library_log"]),
        helper.make_node("MatMul", ["library_log", "depth_weight"], ["from_depth"]),
        helper.make_node("MatMul", ["batch", "batch_weight"], ["from_batch"]),
        helper.make_node("Sum", ["from_rna", "from_protein", "from_depth", "from_batch"], ["z_mean"]),
        helper.make_node("Abs", ["z_mean"], ["magnitude"]),
        helper.make_node("Mul", ["magnitude", "tenth"], ["spread"]),
        helper.make_node("Add", ["spread", "tenth"], ["z_scale"]),
        helper.make_node("Softsign", ["z_mean"], ["latent"]),
    ]
    beside_rna: dict[str, list[str | int]] = {
        "library": ["cells", 1],
        "protein": ["cells", n_proteins],
        "measured": ["cells", n_proteins],
        "batch": ["cells", len(TOY.batches)],
    }
    after_rna = {
        "one": np.array(1.0),
        "tenth": np.array(0.1),
        "protein_weight": protein_weight,
        "depth_weight": depth_weight,
        "batch_weight": rng.normal(scale=0.1, size=(len(TOY.batches), TOY.n_latent)),
    }
    outputs: dict[str, list[str | int]] = {name: ["cells", TOY.n_latent] for name in ENCODER.outputs}
    encoder = _graph(
        [*from_rna, *rest],
        inputs={"rna": ["cells", len(TOY.genes)], **beside_rna},
        outputs=outputs,
        constants={"per_gene": np.array(1 / len(TOY.genes)), "gene_weight": _first_layer(), **after_rna},
    )
    encoder_rest = _graph(
        rest, inputs={"from_rna": ["cells", TOY.n_latent], **beside_rna}, outputs=outputs, constants=after_rna
    )
    classifier = _graph(
        [helper.make_node("MatMul", ["latent", "weight"], ["logits"])],
        inputs={"latent": ["cells", TOY.n_latent]},
        outputs={"logits": ["cells", n_labels]},
        constants={"weight": 12 * np.eye(TOY.n_latent)[:, :n_labels]},
    )
    decode_weight = np.zeros((TOY.n_latent, n_proteins))
    decode_weight[:n_labels, :n_labels] = 2.5 * np.eye(n_labels)
    # log foreground level = z W + b; expected adds a background that depends on the batch to decode as.
    proteins = _graph(
        [
            helper.make_node("Unsqueeze", ["z_mean", "first"], ["mean"]),
            helper.make_node("Unsqueeze", ["z_scale", "first"], ["deviation"]),
            helper.make_node("Unsqueeze", ["noise", "second"], ["draw"]),
            helper.make_node("Mul", ["deviation", "draw"], ["step"]),
            helper.make_node("Add", ["mean", "step"], ["z"]),
            helper.make_node("MatMul", ["z", "decode_weight"], ["from_latent"]),
            helper.make_node("MatMul", ["batch", "batch_weight"], ["from_batch"]),
            helper.make_node("Sum", ["from_latent", "from_batch", "decode_bias"], ["log_level"]),
            helper.make_node("Exp", ["log_level"], ["level"]),
            helper.make_node("MatMul", ["batch", "background_weight"], ["background"]),
            helper.make_node("Add", ["level", "background"], ["total"]),
            helper.make_node("Sigmoid", ["log_level"], ["share"]),
            helper.make_node("ReduceMean", ["level", "first"], ["denoised"], keepdims=0),
            helper.make_node("ReduceMean", ["total", "first"], ["expected"], keepdims=0),
            helper.make_node("ReduceMean", ["share", "first"], ["foreground"], keepdims=0),
        ],
        inputs={
            "z_mean": ["cells", TOY.n_latent],
            "z_scale": ["cells", TOY.n_latent],
            "noise": ["samples", TOY.n_latent],
            "batch": [1, len(TOY.batches)],
        },
        outputs={name: ["cells", n_proteins] for name in PROTEINS.outputs},
        constants={
            "first": np.array([0], dtype=np.int64),
            "second": np.array([1], dtype=np.int64),
            "decode_weight": decode_weight,
            "decode_bias": np.log([2.0, 2.0, 2.0, 2.0, 55.0, 1.0]),
            "batch_weight": rng.normal(scale=0.2, size=(len(TOY.batches), n_proteins)),
            "background_weight": rng.uniform(1, 4, size=(len(TOY.batches), n_proteins)),
        },
    )
    return {
        ENCODER.file: encoder,
        CLASSIFIER.file: classifier,
        PROTEINS.file: proteins,
        ENCODER_REST.file: encoder_rest,
    }


def _first_layer() -> Floats:
    """Average the markers of each label, (genes, latent)."""
    weight = np.zeros((len(TOY.genes), TOY.n_latent), dtype=np.float32)
    weight[:, : len(TOY.labels)] = TOY.markers.T / TOY.markers.sum(axis=1)
    return weight


def _graph(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list[str | int]],
    outputs: dict[str, list[str | int]],
    constants: dict[str, npt.NDArray[np.generic]],
) -> onnx.ModelProto:
    def values(shapes: dict[str, list[str | int]]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]

    initializers = [
        numpy_helper.from_array(value if value.dtype == np.int64 else value.astype(np.float32), name)
        for name, value in constants.items()
    ]
    graph = helper.make_graph(nodes, "toy", values(inputs), values(outputs), initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
