"""Products of whole numbers of eight bits, as QuantizeLinear and DequantizeLinear say them.

Each product has fixed steps (`totalanvi.export.precision.steps`), whichever graph it is in and whatever part of its
rows that graph multiplies: sums of whole numbers are exact, so that parts add up to the whole. ONNX Runtime makes one
operation of whole numbers of a product on a CPU; elsewhere it is computed in float32, as it stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, helper, numpy_helper

from totalanvi.export.errors import GraphError
from totalanvi.export.precision.products import Product, drop_unused, multiplied_weights, products_of
from totalanvi.export.precision.steps import Steps, last_products

__all__ = ["quantize"]

Floats = npt.NDArray[np.float32]


def quantize(model: ModelProto, steps: Mapping[frozenset[str], Steps]) -> None:
    """Lower the products of a graph that have steps, in place; all else, inputs and outputs stay float32.

    Parameters
    ----------
    model
        A graph that torch's exporter wrote.
    steps
        By the product's weights.

    Raises
    ------
    GraphError
        When it has weights of a product with steps, but not that product.
    """
    exact = last_products(model)
    chosen = {p.output: p for p in products_of(model) if p.weights in steps and p.output not in exact}
    names = {tensor.name for tensor in model.graph.initializer}
    if missed := {key for key in steps if key <= names} - {product.weights for product in chosen.values()}:
        raise GraphError(
            f"{model.graph.name}: expected a product with each of {[sorted(key) for key in missed]}, found none; this "
            "is a bug: please report it."
        )
    weights = multiplied_weights(model, chosen.values())
    nodes: list[NodeProto] = []
    scaled: dict[tuple[str, float, float], str] = {}
    for node in list(model.graph.node):
        if (product := chosen.get(node.output[0])) is None:
            nodes.append(node)
            continue
        of = steps[product.weights]
        left = (product.left, of.lowest, of.step)
        if left not in scaled:
            scaled[left] = f"{product.output}.left"
            nodes.extend(_left(model, product.left, scaled[left], of))
        nodes.extend(_product(model, product, scaled[left], np.rint(weights[product.output] / of.columns), of))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    drop_unused(model)


def _left(model: ModelProto, name: str, made: str, steps: Steps) -> Iterator[NodeProto]:
    """Make whole numbers from 0 to 255 of what is multiplied."""
    of = [f"{made}.step", f"{made}.zero"]
    _constant(model, of[0], np.float32(steps.step))
    _constant(model, of[1], np.uint8(steps.zero))
    yield helper.make_node("QuantizeLinear", [name, *of], [f"{made}.whole"])
    yield helper.make_node("DequantizeLinear", [f"{made}.whole", *of], [made])


def _product(model: ModelProto, product: Product, left: str, weights: Floats, steps: Steps) -> Iterator[NodeProto]:
    """Multiply by whole numbers, then by the steps of their columns."""
    whole, one, by, right, made, scaled = (
        f"{product.output}.{part}" for part in ("whole", "one", "columns", "right", "made", "scaled")
    )
    _constant(model, whole, weights.astype(np.int8))
    _constant(model, one, np.float32(1))
    _constant(model, by, steps.columns if weights.ndim > 2 else steps.columns[0])
    yield helper.make_node("DequantizeLinear", [whole, one], [right])
    yield helper.make_node("MatMul", [left, right], [made])
    if product.added is None:
        yield helper.make_node("Mul", [made, by], [product.output])
    else:
        yield helper.make_node("Mul", [made, by], [scaled])
        yield helper.make_node("Add", [scaled, product.added], [product.output])


def _constant(model: ModelProto, name: str, value: npt.NDArray[np.generic] | np.generic) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
