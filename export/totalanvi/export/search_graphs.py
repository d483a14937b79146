"""The graphs that look among landmarks and labels where the encoder computes: no weights, a few operations."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from totalanvi.export.weightless import Shapes, weightless
from totalanvi.serving.bundles.graphs import DENSITY, N_NEAREST, NEAREST

__all__ = ["density_graph", "nearest_graph"]


def nearest_graph() -> onnx.ModelProto:
    """Make the graph `totalanvi.serving.bundles.graphs.NEAREST`.

    Examples
    --------
    >>> [node.op_type for node in nearest_graph().graph.node][-2:]
    ['TopK', 'Cast']
    """
    # Of |c − l|² = |c|² − 2 c·l + |l|², the first term is the same for all landmarks of a cell.
    nodes = [
        helper.make_node("Transpose", ["landmarks"], ["columns"]),
        helper.make_node("MatMul", ["latent", "columns"], ["products"]),
        helper.make_node("Add", ["products", "products"], ["twice"]),
        helper.make_node("ReduceSumSquare", ["landmarks"], ["squares"], axes=[1], keepdims=0),
        helper.make_node("Sub", ["twice", "squares"], ["closeness"]),
        helper.make_node("Shape", ["landmarks"], ["shape"]),
        helper.make_node("Slice", ["shape", "first", "second"], ["there"]),
        helper.make_node("Min", ["there", "most"], ["found"]),
        helper.make_node("TopK", ["closeness", "found"], ["closest", "places"], axis=1, sorted=0),
        helper.make_node("Cast", ["places"], ["nearest"], to=TensorProto.FLOAT),
    ]
    shapes = {"latent": ["cells", "dimensions"], "landmarks": ["points", "dimensions"], "nearest": ["cells", "k"]}
    numbers = {"first": 0, "second": 1, "most": N_NEAREST}
    constants = {name: np.array([number], dtype=np.int64) for name, number in numbers.items()}
    return weightless(NEAREST, nodes, shapes, constants)


def density_graph() -> onnx.ModelProto:
    """Make the graph `totalanvi.serving.bundles.graphs.DENSITY`.

    Examples
    --------
    >>> [node.op_type for node in density_graph().graph.node][-3:]
    ['ReduceSumSquare', 'Add', 'ReduceMin']
    """
    nodes = [
        helper.make_node("MatMul", ["components", "whitening"], ["products"]),
        helper.make_node("Sub", ["products", "centres"], ["whitened"]),
        helper.make_node("Shape", ["log_ratios"], ["shape"]),
        helper.make_node("Slice", ["shape", "second", "third"], ["labels"]),
        helper.make_node("Concat", ["same", "labels", "rest"], ["by_label"], axis=0),
        helper.make_node("Reshape", ["whitened", "by_label"], ["apart"]),
        helper.make_node("ReduceSumSquare", ["apart"], ["squares"], axes=[2], keepdims=0),
        helper.make_node("Add", ["squares", "log_ratios"], ["far"]),
        helper.make_node("ReduceMin", ["far"], ["least"], axes=[1], keepdims=1),
    ]
    shapes: Shapes = {
        "components": ["cells", "features"],
        "whitening": ["features", "columns"],
        "centres": [1, "columns"],
        "log_ratios": [1, "labels"],
        "least": ["cells", 1],
    }
    numbers = {"second": 1, "third": 2, "same": 0, "rest": -1}
    constants = {name: np.array([number], dtype=np.int64) for name, number in numbers.items()}
    return weightless(DENSITY, nodes, shapes, constants)
