"""Graphs of the toy reference (see `toy_bundle`), made with `onnx.helper` alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from tests.support.toy import TOY

from totalanvi.export.imputation_graphs import add_weighted_graph, bounds_graph
from totalanvi.export.rows_graph import rows_graph
from totalanvi.export.search_graphs import nearest_graph
from totalanvi.serving.bundles.graphs import (
    ADD_WEIGHTED,
    BOUNDS,
    CLASSIFIER,
    ENCODER,
    ENCODER_REST,
    NEAREST,
    PROTEINS,
    ROWS,
)

__all__ = ["toy_first_layer", "toy_graphs"]

Floats = npt.NDArray[np.float32]


def toy_graphs() -> dict[str, onnx.ModelProto]:
    """Make the graphs of the bundle, by file."""
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
        constants={"per_gene": np.array(1 / len(TOY.genes)), "gene_weight": toy_first_layer(), **after_rna},
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
        ROWS.file: rows_graph(len(TOY.genes)),
        NEAREST.file: nearest_graph(),
        ADD_WEIGHTED.file: add_weighted_graph(),
        BOUNDS.file: bounds_graph(),
    }


def toy_first_layer() -> Floats:
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
