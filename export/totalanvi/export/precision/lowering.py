"""From a bundle in float32, which was compared with torch, to one in less."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from totalanvi.export.precision.cost import cost_of, landmark_distance, measure
from totalanvi.export.precision.half import Half, halve, rounded
from totalanvi.export.precision.products import products_of
from totalanvi.export.precision.steps import steps_of
from totalanvi.export.precision.whole_numbers import quantize
from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.files import hash_files
from totalanvi.serving.bundles.first_layer import FirstLayer, FirstLayers
from totalanvi.serving.bundles.graphs import DEVICE_GRAPHS, complete_graphs
from totalanvi.serving.bundles.precision import Lowered, PrecisionCost
from totalanvi.training.checkpoints.reference_sample import ReferenceSample
from totalanvi.training.data import Cells

__all__ = ["lowered"]

_MULTIPLIED_IN_FLOAT16 = frozenset(graph.file for graph in complete_graphs(readout=True))
"""Those that a device computes. The others are a CPU's, which has no products in float16: there, it would change
nothing but how far graphs for one panel and for several agree."""

_FIRST_LAYERS: Mapping[Lowered, Half] = {"float16": "float16", "bfloat16": "bfloat16", "int8": "bfloat16"}
"""What first layers are rounded to, in the arrays for sparse rows and in complete graphs. Whole numbers would be no
faster there; what bfloat16 holds is read two columns at a time."""

_FIRST_WEIGHTS = (frozenset(["encoder.rna_in.weight"]), frozenset(["network.projection"]))
"""In complete graphs; the modules that are exported name them."""


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
    before, near = measure(bundle, sample), landmark_distance(bundle, sample)
    say(f"Lowering weights to {precision}")
    if precision == "int8":
        _quantize_files(bundle, sample.landmarks)
    else:
        _halve_files(bundle, precision)
    first_layers = _rounded_first_layers(bundle.first_layers, _FIRST_LAYERS[precision])
    manifest = bundle.manifest.model_copy(update={"files": hash_files(bundle.path, bundle.manifest.files)})
    made = replace(bundle, manifest=manifest, first_layers=first_layers)
    say("Measuring what that costs")
    after = measure(made, sample)
    return made, cost_of(precision, before, after, near=near, held_out=len(sample.held_out) > 0)


def _halve_files(bundle: Bundle, precision: Half) -> None:
    """Store weights in 16 bits."""
    for name in _with_weights(bundle):
        multiply = precision == "float16" and name in _MULTIPLIED_IN_FLOAT16
        with _rewritten(bundle.path / name) as model:
            halve(model, products_of(model), precision, multiply=multiply)


def _quantize_files(bundle: Bundle, landmarks: Cells) -> None:
    """Multiply whole numbers after first layers."""
    steps = steps_of(bundle, landmarks)
    for name in _with_weights(bundle):
        with _rewritten(bundle.path / name) as model:
            quantize(model, steps)
            first = [product for product in products_of(model) if product.weights in _FIRST_WEIGHTS]
            halve(model, first, _FIRST_LAYERS["int8"], multiply=False)


def _with_weights(bundle: Bundle) -> list[str]:
    without = {graph.file for graph in DEVICE_GRAPHS}
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
