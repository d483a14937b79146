"""The graph that makes rows of genes dense where the encoder computes: no weights, five operations."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from totalanvi.export.weightless import Shapes, weightless
from totalanvi.serving.bundles.graphs import ROWS

__all__ = ["rows_graph"]


def rows_graph(n_genes: int) -> onnx.ModelProto:
    """Make the graph `totalanvi.serving.bundles.graphs.ROWS` of a reference.

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
    shapes: Shapes = {
        "places": ["stored"],
        "counts": ["stored"],
        "library": ["cells", 1],
        "rna": ["cells", n_genes],
    }
    constants = {"genes": np.array([1, n_genes], dtype=np.int64), "flat": np.array([-1], dtype=np.int64)}
    return weightless(ROWS, nodes, shapes, constants, {"places": TensorProto.INT32})
