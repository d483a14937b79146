"""Which operations of a graph multiply by weights."""

from __future__ import annotations

from dataclasses import dataclass

from onnx import ModelProto, NodeProto, TensorProto, helper

__all__ = ["Product", "products_of"]

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
        Names of the matrices among the graph's initialisers that its right operand is made of.
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
    """Find the products of cells with weights. Those of two inputs, or of two constants, are none.

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
        if all(name in constants for name in node.input if name):
            made_of = frozenset().union(*(constants[name] for name in node.input if name))
            constants |= dict.fromkeys(node.output, made_of)
        elif node.op_type in ("MatMul", "Gemm") and _is_plain(node) and node.input[1] in constants:
            of = constants[node.input[1]]
            found.append(Product(node, frozenset(name for name in of if _is_matrix(tensors[name]))))
    return found


def _is_matrix(tensor: TensorProto) -> bool:
    return tensor.data_type == TensorProto.FLOAT and len(tensor.dims) > 1


def _is_plain(node: NodeProto) -> bool:
    said = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return all(said.get(name, value) == value for name, value in _DEFAULTS.items())
