"""The graphs that turn decoded proteins into imputed ones where the decoder computes: no weights, a few operations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, helper, numpy_helper

from totalanvi.export.weightless import Shapes, weightless
from totalanvi.serving.bundles.graphs import ADD_WEIGHTED, BOUNDS, READOUT_COUNTS, READOUT_IMPUTED

__all__ = ["add_weighted_graph", "bounds_graph", "readout_counts_graph", "readout_imputed_graph"]

_CELLS: Sequence[str | int] = ("cells", "proteins")
_PROTEINS: Sequence[str | int] = (1, "proteins")
_CONSTANTS = {"first": [0], "second": [1], "last": [2], "many": [2**31 - 1], "rest": [-1]}


def add_weighted_graph() -> onnx.ModelProto:
    """Make the graph `totalanvi.serving.bundles.graphs.ADD_WEIGHTED`.

    Examples
    --------
    >>> [node.op_type for node in add_weighted_graph().graph.node]
    ['Constant', 'Greater', 'Mul', 'Where', 'Add']
    """
    nodes = [
        _number("zero", 0),
        helper.make_node("Greater", ["weight", "zero"], ["counts_for_it"]),
        helper.make_node("Mul", ["decoded", "weight"], ["weighted"]),
        helper.make_node("Where", ["counts_for_it", "weighted", "zero"], ["part"]),
        helper.make_node("Add", ["total", "part"], ["sum"]),
    ]
    shapes: Shapes = {
        "total": ("cells or one", "proteins"),
        **dict.fromkeys(("decoded", "sum"), _CELLS),
        "weight": _PROTEINS,
    }
    return weightless(ADD_WEIGHTED, nodes, shapes, {})


def readout_counts_graph() -> onnx.ModelProto:
    """Make the graph `totalanvi.serving.bundles.graphs.READOUT_COUNTS`.

    Examples
    --------
    >>> readout_counts_graph().graph.name
    'readout_counts'
    """
    nodes = [
        helper.make_node("Mul", ["standardised", "spread"], ["apart"]),
        helper.make_node("Add", ["apart", "centre"], ["log_count"]),
        helper.make_node("Exp", ["log_count"], ["one_more"]),
        helper.make_node("Mul", ["one_more", "smear"], ["smeared"]),
        *_less_one("smeared", "of_batch"),
    ]
    shapes: Shapes = {
        **dict.fromkeys(("standardised", "of_batch"), _CELLS),
        **dict.fromkeys(("centre", "spread", "smear"), _PROTEINS),
    }
    return weightless(READOUT_COUNTS, nodes, shapes, {})


def readout_imputed_graph() -> onnx.ModelProto:
    """Make the graph `totalanvi.serving.bundles.graphs.READOUT_IMPUTED`.

    Examples
    --------
    >>> [node.op_type for node in readout_imputed_graph().graph.node][-2:]
    ['Max', 'Min']
    """
    nodes = [
        _number("zero", 0),
        *_read("of_readout", "first_share", "shares", ["share"]),
        helper.make_node("Mul", ["share", "of_readout"], ["no_background"]),
        helper.make_node("Greater", ["measured", "zero"], ["known"]),
        helper.make_node("Where", ["known", "decoded_denoised", "no_background"], ["denoised"]),
        helper.make_node("Where", ["known", "decoded_expected", "of_readout"], ["expected"]),
        *_between(),
    ]
    shapes: Shapes = {
        **dict.fromkeys((*READOUT_IMPUTED.inputs[:4], *READOUT_IMPUTED.outputs), _CELLS),
        **dict.fromkeys(("first_share", "first_bound"), _PROTEINS),
        "shares": (3, "lines of shares"),
        "bounds": (5, "lines of bounds"),
    }
    return weightless(READOUT_IMPUTED, nodes, shapes, _constants())


def bounds_graph() -> onnx.ModelProto:
    """Make the graph `totalanvi.serving.bundles.graphs.BOUNDS`.

    Examples
    --------
    >>> [node.op_type for node in bounds_graph().graph.node][-2:]
    ['Max', 'Min']
    """
    shapes: Shapes = {
        **dict.fromkeys(("expected", *BOUNDS.outputs), _CELLS),
        "first_bound": _PROTEINS,
        "bounds": (5, "lines"),
    }
    return weightless(BOUNDS, _between(), shapes, _constants())


def _between() -> list[NodeProto]:
    """Read the bounds of what is expected."""
    nodes = _read("expected", "first_bound", "bounds", ["log_low", "log_high"])
    nodes.append(_number("largest", float(np.finfo(np.float32).max)))
    for name in BOUNDS.outputs:
        nodes += [
            helper.make_node("Exp", [f"log_{name}"], [f"{name}_and_one"]),
            *_less_one(f"{name}_and_one", f"{name}_unlimited"),
            helper.make_node("Min", [f"{name}_unlimited", "largest"], [name]),
        ]
    return nodes


def _read(counts: str, first: str, lines: str, curves: Sequence[str]) -> list[NodeProto]:
    """Read curves at log1p of counts: the same lines as `totalanvi.serving.engine.curves.Curves.read`."""
    tables = [f"{lines}_{number}" for number in range(1 + 2 * len(curves))]

    def own(name: str) -> str:
        return f"{lines}_{name}"

    nodes = [
        _number(own("one"), 1),
        helper.make_node("Add", [counts, own("one")], [own("one_more")]),
        helper.make_node("Log", [own("one_more")], [own("place")]),
        # Where lines begin, but for each protein's first one: (1, proteins, knots).
        helper.make_node("Slice", [lines, "first", "second", "first"], [own("starts")]),
        helper.make_node("Shape", [first], [own("shape")]),
        helper.make_node("Concat", [own("shape"), "rest"], [own("by_protein")], axis=0),
        helper.make_node("Reshape", [own("starts"), own("by_protein")], [own("starts_of_proteins")]),
        helper.make_node("Slice", [own("starts_of_proteins"), "second", "many", "last"], [own("knots")]),
        # On which line a count lies: so many knots are passed.
        helper.make_node("Unsqueeze", [own("place"), "last"], [own("beside_knots")]),
        helper.make_node("GreaterOrEqual", [own("beside_knots"), own("knots")], [own("passed")]),
        helper.make_node("Cast", [own("passed")], [own("as_numbers")], to=onnx.TensorProto.FLOAT),
        helper.make_node("ReduceSum", [own("as_numbers"), "last"], [own("n_passed")], keepdims=0),
        helper.make_node("Add", [own("n_passed"), first], [own("line")]),
        helper.make_node("Cast", [own("line")], [own("number")], to=onnx.TensorProto.INT32),
        helper.make_node("Gather", [lines, own("number")], [own("of_lines")], axis=1),
        helper.make_node("Split", [own("of_lines")], [f"{table}_apart" for table in tables], axis=0),
        *(helper.make_node("Squeeze", [f"{table}_apart", "first"], [table]) for table in tables),
        helper.make_node("Sub", [own("place"), tables[0]], [own("beyond")]),
    ]
    for curve, values, slopes in zip(curves, tables[1::2], tables[2::2], strict=True):
        nodes += [
            helper.make_node("Mul", [own("beyond"), slopes], [f"{curve}_gained"]),
            helper.make_node("Add", [f"{curve}_gained", values], [curve]),
        ]
    return nodes


def _less_one(counts: str, result: str) -> list[NodeProto]:
    """Subtract one, where there is one."""
    return [
        _number(f"{result}_one", 1),
        _number(f"{result}_zero", 0),
        helper.make_node("Sub", [counts, f"{result}_one"], [f"{result}_signed"]),
        helper.make_node("Max", [f"{result}_signed", f"{result}_zero"], [result]),
    ]


def _number(name: str, value: float) -> NodeProto:
    tensor = numpy_helper.from_array(np.array(value, dtype=np.float32))
    return helper.make_node("Constant", [], [name], value=tensor)


def _constants() -> dict[str, npt.NDArray[np.int64]]:
    return {name: np.array(value, dtype=np.int64) for name, value in _CONSTANTS.items()}
