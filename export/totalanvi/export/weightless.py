"""Graphs without weights, which serving gives a device beside the model's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from totalanvi.serving.bundles.graphs import GraphSignature

__all__ = ["Shapes", "weightless"]

Shapes = Mapping[str, Sequence[str | int]]

_OPSET = 13
"""Older than that of the other graphs: each of their operations is computed on a CUDA device in this version, by every
ONNX Runtime that reads the others. One that is not would be computed on the CPU in silence, and blocks sent there."""

_IR_VERSION = 8


def weightless(
    signature: GraphSignature,
    nodes: Sequence[NodeProto],
    shapes: Shapes,
    constants: Mapping[str, npt.NDArray[np.int64]],
    types: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    """Put a graph together, and check it.

    Parameters
    ----------
    signature
        What it is called outside.
    nodes
        Its operations, in order.
    shapes
        Of its inputs and outputs, by name.
    constants
        Whole numbers that operations take, by name.
    types
        Of inputs and outputs that are not float32, by name.

    Examples
    --------
    >>> from totalanvi.serving.bundles.graphs import GraphSignature
    >>> same = [helper.make_node("Identity", ["x"], ["y"])]
    >>> weightless(GraphSignature("same.onnx", ("x",), ("y",)), same, {"x": ["n"], "y": ["n"]}, {}).graph.name
    'same'
    """
    of_type = dict.fromkeys(shapes, TensorProto.FLOAT) | dict(types or {})
    inputs, outputs = (
        [helper.make_tensor_value_info(name, of_type[name], shapes[name]) for name in names]
        for names in (signature.inputs, signature.outputs)
    )
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(list(nodes), signature.file.removesuffix(".onnx"), inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return model
