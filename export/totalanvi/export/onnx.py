"""From a torch module to an ONNX file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import onnx
import torch
from torch import nn

from totalanvi.export.errors import GraphError
from totalanvi.serving.bundles.graphs import GraphSignature

__all__ = ["OPSET", "Graph", "export_graph"]

OPSET = 18
"""What torch's exporter writes without converting, and every ONNX Runtime since 1.14 reads: nothing here needs more."""

_EXAMPLE_ROWS = {"cells": 3, "samples": 2}
"""Not 1, which the exporter would take for a fixed axis to broadcast."""

_CHATTY_LOGGERS = ("torch.onnx", "torch.export", "torch.fx", "onnxscript", "onnx_ir")


class Graph(nn.Module):
    """What the exporter has to know of a graph besides its computation."""

    signature: ClassVar[GraphSignature]
    rows: tuple[str | int, ...]
    """Name of the first axis of each input, or its size where that is fixed, as that of the second axis is."""
    widths: tuple[int, ...]
    """Width of each input."""


def export_graph(graph: Graph, folder: Path) -> Path:
    """Write a graph into a folder, under the name of its signature.

    Parameters
    ----------
    graph
        In evaluation mode.
    folder
        Where to.

    Returns
    -------
    The file: one, with its weights inside.

    Raises
    ------
    GraphError
        When the file is not valid ONNX, or its inputs and outputs are not those of the signature.
    """
    signature = graph.signature
    rows = tuple(_EXAMPLE_ROWS[axis] if isinstance(axis, str) else axis for axis in graph.rows)
    axes = {axis: torch.export.Dim(axis) for axis in graph.rows if isinstance(axis, str)}
    with _quiet():
        program = torch.onnx.export(
            graph,
            tuple(torch.ones(shape) for shape in zip(rows, graph.widths, strict=True)),
            dynamo=True,
            dynamic_shapes=tuple({0: axes[axis]} if isinstance(axis, str) else None for axis in graph.rows),
            input_names=list(signature.inputs),
            output_names=list(signature.outputs),
            opset_version=OPSET,
            external_data=False,
            custom_translation_table={
                torch.ops.aten.softplus.default: _softplus,
                torch.ops.aten.logsumexp.default: _logsumexp,
            },
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _strip(model)
    _verify(model, graph)
    file = folder / signature.file
    file.write_bytes(model.SerializeToString(deterministic=True))
    return file


def _softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """Say softplus in operations that ONNX Runtime has vectorised: they take a third of the time of its own one.

    Right to the rounding of a number around 1, also where the result is smaller: what is exponentiated needs no more.
    """
    from onnxscript import opset18

    if beta != 1:
        raise GraphError(f"Expected softplus with a beta of 1, found {beta:g}; this is a bug: please report it.")
    one = opset18.Constant(value_float=1.0)
    return opset18.Add(opset18.Relu(x), opset18.Log(opset18.Add(opset18.Exp(opset18.Neg(opset18.Abs(x))), one)))


def _logsumexp(x: Any, dim: Sequence[int], keepdim: bool = False) -> Any:
    """Say logsumexp in operations that ONNX Runtime has vectorised, too: its own one takes twice as long."""
    from onnxscript import opset18

    if keepdim:
        raise GraphError("Expected logsumexp that drops its dimensions; this is a bug: please report it.")
    axes: Any = opset18.Constant(value_ints=list(dim))
    highest = opset18.ReduceMax(x, axes, keepdims=1)
    powers = opset18.ReduceSum(opset18.Exp(opset18.Sub(x, highest)), axes, keepdims=0)
    return opset18.Add(opset18.Log(powers), opset18.Squeeze(highest, axes))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's own remarks off the user's terminal; what matters of them raises."""
    loggers = [logging.getLogger(name) for name in _CHATTY_LOGGERS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _strip(model: Any) -> None:
    """Remove the exporter's notes: stack traces with the paths of this machine, which differ from one to the next."""
    graph = model.graph
    for annotated in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del annotated.metadata_props[:]
        annotated.doc_string = ""


def _verify(model: Any, graph: Graph) -> None:
    signature = graph.signature
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise GraphError(
            f"{signature.file}: expected valid ONNX, found {error}; export with the versions of torch and onnx that "
            "totalanvi is tested with."
        ) from error
    # An input that the model does not need (the batch, where the encoder does not see it) has to stay: it is fed.
    for kind, nodes, names in (
        ("inputs", model.graph.input, signature.inputs),
        ("outputs", model.graph.output, signature.outputs),
    ):
        found = tuple(node.name for node in nodes)
        if found != names:
            raise GraphError(
                f"{signature.file}: expected the {kind} {list(names)}, found {list(found)}; export with the versions "
                "of torch and onnx that totalanvi is tested with."
            )
