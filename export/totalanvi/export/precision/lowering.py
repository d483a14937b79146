"""From a bundle in float32, which was compared with torch, to one in less."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from totalanvi.export.errors import GraphError, PrecisionError
from totalanvi.export.precision.cost import cost_of, measure
from totalanvi.export.precision.half import Half, halve, rounded
from totalanvi.export.precision.ranges import ranges_of
from totalanvi.export.precision.whole_numbers import quantize
from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.files import hash_files
from totalanvi.serving.bundles.first_layer import FirstLayer, FirstLayers
from totalanvi.serving.bundles.manifest import (
    CLASSIFIER,
    ENCODER,
    PROTEINS,
    READOUT,
    device_graphs,
)
from totalanvi.serving.bundles.precision import LOWERED, Lowered, PrecisionCost
from totalanvi.training.checkpoints.reference_sample import ReferenceSample
from totalanvi.training.data import Cells

__all__ = ["FULL", "checked_precision", "lowered"]

FULL = "float32"
"""What training computes with, and the default."""

_ON_DEVICE = frozenset(graph.file for graph in (ENCODER, CLASSIFIER, PROTEINS, READOUT))
"""Graphs that a device computes, too. The others are a CPU's, which has no products in float16: there, it would change
nothing but how far graphs for one panel and for several agree."""

_FIRST_BESIDE_INT8: Half = "bfloat16"
"""A CPU reads first layers in it in two thirds of the time, and their rounding is far below that of int8."""

_BUG = "this is a bug: please report it."


def checked_precision(precision: str) -> Lowered | None:
    """Return what to lower a bundle to, None for float32.

    Raises
    ------
    PrecisionError
        When it is something else.
    """
    for known in LOWERED:
        if precision == known:
            return known
    if precision != FULL:
        names = ", ".join((FULL, *LOWERED))
        raise PrecisionError(f"precision: expected one of {names}, found {precision!r}; choose one of them.")
    return None


def lowered(
    bundle: Bundle, precision: Lowered, sample: ReferenceSample, say: Callable[[str], None]
) -> tuple[Bundle, PrecisionCost]:
    """Lower the graphs of a bundle in their place, and its first layers with them; measure what it costs.

    Parameters
    ----------
    bundle
        In float32, with its graphs in place; what is calibrated is not looked at, and has to be measured anew.
    precision
        What to lower it to.
    sample
        Of the reference.
    say
        Called with a line about each step.
    """
    say("Mapping the reference's own cells in float32")
    before = measure(bundle, sample)
    say(f"Lowering weights to {precision}")
    if precision == "int8":
        files, of_first = _quantize_files(bundle, sample.landmarks), _FIRST_BESIDE_INT8
    else:
        files, of_first = _halve_files(bundle, precision), precision
    manifest = bundle.manifest.model_copy(update={"files": hash_files(bundle.path, files)})
    made = replace(bundle, manifest=manifest, first_layers=_rounded_first_layers(bundle.first_layers, of_first))
    say("Measuring what that costs")
    return made, cost_of(precision, before, measure(made, sample), held_out=len(sample.held_out) > 0)


def _halve_files(bundle: Bundle, precision: Half) -> list[str]:
    """Store weights in 16 bits, and return the names of all graphs."""
    for name in _with_weights(bundle):
        with _rewritten(bundle.path / name) as model:
            halve(model, precision, multiply=precision == "float16" and name in _ON_DEVICE)
    return list(bundle.manifest.files)


def _quantize_files(bundle: Bundle, landmarks: Cells) -> list[str]:
    """Multiply whole numbers, and return the names of the graphs that are left.

    Those for cells of one panel take products apart that others have in one: their whole numbers would be others, and a
    cell's labels would depend on whether its neighbours have its panel. What they save is less than what whole numbers
    do.
    """
    ranges = ranges_of(bundle, landmarks)
    for name in _with_weights(bundle):
        if name not in ranges:
            (bundle.path / name).unlink()
            continue
        with _rewritten(bundle.path / name) as model:
            stayed = quantize(model, ranges[name])
            halve(model, _FIRST_BESIDE_INT8, multiply=False, of=stayed)
        # The first layers of complete graphs, which the arrays beside them are held against.
        if len(stayed) != (name in (ENCODER.file, READOUT.file)):
            raise GraphError(f"{name}: expected a range of all that is multiplied, found none of {stayed}; {_BUG}")
    return [name for name in bundle.manifest.files if (bundle.path / name).exists()]


def _with_weights(bundle: Bundle) -> list[str]:
    without = {graph.file for graph in device_graphs(readout=True)}
    return [name for name in bundle.manifest.files if name not in without]


@contextmanager
def _rewritten(file: Path) -> Iterator[onnx.ModelProto]:
    """Open a graph, and write it again when it was changed."""
    model = onnx.load_model(file)
    yield model
    onnx.checker.check_model(model, full_check=True)
    file.write_bytes(model.SerializeToString(deterministic=True))


def _rounded_first_layers(layers: FirstLayers, precision: Half) -> FirstLayers:
    """Round what is computed from sparse rows to what the complete graphs hold of it."""

    def weight(layer: FirstLayer) -> npt.NDArray[np.float32]:
        return rounded(layer.weight, precision)

    readout = None if layers.readout is None else replace(layers.readout, weight=weight(layers.readout))
    return FirstLayers(replace(layers.encoder, weight=weight(layers.encoder)), readout)
