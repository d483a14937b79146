"""Products of whole numbers of eight bits, as QuantizeLinear and DequantizeLinear say them.

What is multiplied has one scale, which is fixed: a scale that followed the cells of a block would make a cell's result
depend on its neighbours. Weights have a scale for each of their columns, and seven bits: the sum of two products then
fits 16 bits, as far as processors without VNNI count before they go on in 32, so that all of them give the same.
ONNX Runtime makes one operation of whole numbers of it on a CPU; elsewhere it is computed in float32, as it stands.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from totalanvi.export.precision.products import Product, products_of
from totalanvi.export.precision.ranges import Ranges

__all__ = ["quantize"]

Floats = npt.NDArray[np.float32]

_FEWEST = 64
"""Inputs, and outputs, of a product: smaller ones take as long in whole numbers, or hardly less."""

_EXACT = ("standardised",)
"""Outputs whose last products stay in float32. A readout's proteins are logarithms: whole numbers there changed counts
by ten times as much as all others together."""

_LEVELS, _WEIGHT_LEVELS = 255, 64


def quantize(model: ModelProto, ranges: Ranges) -> list[str]:
    """Lower a graph's large products by weights, in place; all else, inputs and outputs stay float32.

    Parameters
    ----------
    model
        A graph that torch's exporter wrote.
    ranges
        Of what is multiplied. A product of something else stays as it is, as a first layer does.

    Returns
    -------
    list of str
        What is multiplied in the products that stay for want of a range.
    """
    products = products_of(model)
    exact = _last_products(model, {product.output for product in products})
    weights = _computed(model, {product.right for product in products})
    chosen = {
        product.output: product
        for product in products
        if product.left in ranges and product.output not in exact and _is_large(weights[product.right])
    }
    nodes: list[NodeProto] = []
    scaled: set[str] = set()
    for node in model.graph.node:
        product = chosen.get(node.output[0])
        if product is None:
            nodes.append(node)
            continue
        if product.left not in scaled:
            scaled.add(product.left)
            nodes.extend(_left(model, product.left, *ranges[product.left]))
        nodes.extend(_product(model, product, _as_multiplied(product, weights[product.right])))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    _drop_unused(model)
    return [product.left for product in products if product.left not in ranges]


def _is_large(weights: Floats) -> bool:
    return all(size >= _FEWEST for size in weights.shape[-2:])


def _last_products(model: ModelProto, products: Collection[str]) -> set[str]:
    """Return the products that `_EXACT` outputs are made of without another one between."""
    needed, found = {output.name for output in model.graph.output if output.name in _EXACT}, set()
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            if node.output[0] in products:
                found.add(node.output[0])
            else:
                needed.update(node.input)
    return found


def _left(model: ModelProto, name: str, lowest: float, highest: float) -> Iterator[NodeProto]:
    """Make whole numbers from 0 to 255 of what is multiplied."""
    scale = max(highest - lowest, 1e-6) / _LEVELS
    _constant(model, f"{name}.scale", np.float32(scale))
    _constant(model, f"{name}.zero", np.uint8(round(-lowest / scale)))
    of = [f"{name}.scale", f"{name}.zero"]
    yield helper.make_node("QuantizeLinear", [name, *of], [f"{name}.whole"])
    yield helper.make_node("DequantizeLinear", [f"{name}.whole", *of], [f"{name}.steps"])


def _product(model: ModelProto, product: Product, weights: Floats) -> Iterator[NodeProto]:
    """Multiply by whole numbers, then by the scales of their columns."""
    scale = np.maximum(np.abs(weights).max(axis=-2, keepdims=True) / _WEIGHT_LEVELS, np.float32(1e-12))
    whole, one, by, right, made, last = (
        f"{product.output}.{part}" for part in ("weights", "one", "scale", "right", "made", "scaled")
    )
    _constant(model, whole, np.rint(weights / scale).astype(np.int8))
    _constant(model, one, np.float32(1))
    _constant(model, by, scale if weights.ndim > 2 else scale[0])
    yield helper.make_node("DequantizeLinear", [whole, one], [right])
    yield helper.make_node("MatMul", [f"{product.left}.steps", right], [made])
    if product.added is None:
        yield helper.make_node("Mul", [made, by], [product.output])
    else:
        yield helper.make_node("Mul", [made, by], [last])
        yield helper.make_node("Add", [last, product.added], [product.output])


def _constant(model: ModelProto, name: str, value: npt.NDArray[np.generic] | np.generic) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))


def _as_multiplied(product: Product, weights: Floats) -> Floats:
    transposed = any(each.name == "transB" and each.i for each in product.node.attribute)
    return np.ascontiguousarray(weights.T if transposed else weights)


def _computed(model: ModelProto, names: Collection[str]) -> dict[str, Floats]:
    """Return what is made of a graph's weights alone, by name."""
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    made = sorted(set(names) - values.keys())
    if made:
        alone = ModelProto()
        alone.CopyFrom(model)
        del alone.graph.input[:], alone.graph.output[:], alone.graph.value_info[:]
        alone.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in made)
        _drop_unused(alone)
        session = onnxruntime.InferenceSession(alone.SerializeToString(), providers=["CPUExecutionProvider"])
        values |= dict(zip(made, session.run(made, {}), strict=True))
    return {name: values[name] for name in names}


def _drop_unused(model: ModelProto) -> None:
    """Drop operations and weights that no output is made of."""
    graph = model.graph
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(weights)
