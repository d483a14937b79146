"""The graph that makes rows of genes dense where the encoder computes: no weights, five operations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from totalanvi.serving.bundles.manifest import ROWS

__all__ = ["rows_graph", "write_rows_graph"]

_OPSET = 13
"""Older than that of the other graphs: each of these operations is computed on a CUDA device in this version, by every
ONNX Runtime that reads the others. One that is not would be computed on the CPU in silence, and rows sent whole."""

_IR_VERSION = 8


def rows_graph(n_genes: int) -> onnx.ModelProto:
    """Make the graph `totalanvi.serving.bundles.manifest.ROWS` of a reference.

    Parameters
    ----------
    n_genes
        Of the reference.

    Examples
    --------
    >>> [node.op_type for node in rows_graph(4000).graph.node][:3]
    ['Shape', 'Mul', 'ConstantOfShape']
    """
    zero = numpy_helper.from_array(np.zeros(1, dtype=np.float32))
    nodes = [
        helper.make_node("Shape", ["library"], ["cells"]),
        helper.make_node("Mul", ["cells", "genes"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"], value=zero),
        helper.make_node("Reshape", ["zeros", "flat"], ["empty"]),
        helper.make_node("ScatterElements", ["empty", "places", "counts"], ["filled"], axis=0),
        helper.make_node("Reshape", ["filled", "shape"], ["rna"]),
    ]
    shapes: dict[str, list[str | int | None]] = {
        "places": ["stored"],
        "counts": ["stored"],
        "library": ["cells", 1],
        "rna": ["cells", n_genes],
    }
    types = dict.fromkeys(shapes, TensorProto.FLOAT) | {"places": TensorProto.INT32}
    inputs, outputs = (
        [helper.make_tensor_value_info(name, types[name], shapes[name]) for name in names]
        for names in (ROWS.inputs, ROWS.outputs)
    )
    constants = {"genes": np.array([1, n_genes]), "flat": np.array([-1])}
    initializers = [numpy_helper.from_array(value.astype(np.int64), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "rows", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return model


def write_rows_graph(n_genes: int, folder: Path) -> None:
    """Write it into a folder, under the name of its signature."""
    (folder / ROWS.file).write_bytes(rows_graph(n_genes).SerializeToString(deterministic=True))
