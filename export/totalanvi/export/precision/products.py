"""Which operations of a graph multiply by weights, and what these weights are."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

__all__ = ["Product", "drop_unused", "multiplied_weights", "products_of"]

Floats = npt.NDArray[np.float32]

_DEFAULTS = {"alpha": 1.0, "beta": 1.0, "transA": 0}
"""Of a Gemm: what torch's exporter writes, and what can be taken apart into a product and a sum."""


@dataclass(frozen=True, eq=False)
class Product:
    """One matrix product, ``left @ right`` or ``left @ right + added``.

    Parameters
    ----------
    node
        A MatMul, or a Gemm.
    weights
        Names of the matrices among the graph's initialisers that its right operand is made of, the same in all graphs
        of a bundle.
    """

    node: NodeProto
    weights: frozenset[str]

    @property
    def left(self) -> str:
        """What is multiplied."""
        return str(self.node.input[0])

    @property
    def right(self) -> str:
        """What it is multiplied by: weights, or what operations without a cell make of them."""
        return str(self.node.input[1])

    @property
    def added(self) -> str | None:
        """What is added, None where nothing is."""
        return str(self.node.input[2]) if len(self.node.input) > 2 else None

    @property
    def output(self) -> str:
        """Where the result goes."""
        return str(self.node.output[0])


def products_of(model: ModelProto) -> list[Product]:
    """Find the products with weights, of cells or of what all cells share; those of two inputs are none.

    Parameters
    ----------
    model
        A graph that torch's exporter wrote.
    """
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    constants = {name: frozenset([name]) for name in tensors}
    # A graph's operations are in order: what one of them is made of is known before it.
    found = []
    for node in graph.node:
        if node.op_type in ("MatMul", "Gemm") and _is_plain(node) and node.input[1] in constants:
            of = constants[node.input[1]]
            found.append(Product(node, frozenset(name for name in of if _is_matrix(tensors[name]))))
        if all(name in constants for name in node.input if name):
            made_of = frozenset().union(*(constants[name] for name in node.input if name))
            constants |= dict.fromkeys(node.output, made_of)
    return found


def multiplied_weights(model: ModelProto, products: Collection[Product]) -> dict[str, Floats]:
    """Return what each of a graph's products multiplies by, (..., rows, columns), by its output.

    Parameters
    ----------
    model
        The graph.
    products
        Some of `products_of` it.
    """
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    made = sorted({product.right for product in products} - values.keys())
    if made:
        alone = ModelProto()
        alone.CopyFrom(model)
        del alone.graph.input[:], alone.graph.output[:], alone.graph.value_info[:]
        alone.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in made)
        drop_unused(alone)
        session = onnxruntime.InferenceSession(alone.SerializeToString(), providers=["CPUExecutionProvider"])
        values |= dict(zip(made, session.run(made, {}), strict=True))
    return {product.output: _as_multiplied(product, values[product.right]) for product in products}


def drop_unused(model: ModelProto) -> None:
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


def _as_multiplied(product: Product, weights: Floats) -> Floats:
    transposed = any(each.name == "transB" and each.i for each in product.node.attribute)
    return np.ascontiguousarray(weights.T if transposed else weights)


def _is_matrix(tensor: TensorProto) -> bool:
    return tensor.data_type == TensorProto.FLOAT and len(tensor.dims) > 1


def _is_plain(node: NodeProto) -> bool:
    said = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return all(said.get(name, value) == value for name, value in _DEFAULTS.items())
