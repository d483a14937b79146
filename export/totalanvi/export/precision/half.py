"""Weights in 16 bits: float16, in which a device multiplies as well, or bfloat16.

ONNX Runtime multiplies in neither on most CPUs. Of float16 it makes float32 there, and leaves out casts that only round
what is multiplied; a product of bfloat16 it refuses. So float16 costs a CPU no time, and bfloat16 is what weights are
stored in: each machine makes float32 of them when a graph is opened.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from totalanvi.export.errors import PrecisionError
from totalanvi.export.precision.products import Product

__all__ = ["Half", "halve", "rounded"]

Half = Literal["float16", "bfloat16"]

_TORCH = {"float16": torch.float16, "bfloat16": torch.bfloat16}
_ONNX = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}


def rounded(weight: npt.NDArray[np.float32], precision: Half) -> npt.NDArray[np.float32]:
    """Round weights to what 16 bits hold, to the nearest and from the middle to the even one; float32 as before.

    Raises
    ------
    PrecisionError
        When one is larger than they hold.

    Examples
    --------
    >>> rounded(np.array([1.0004, 3.0], np.float32), "float16").tolist()
    [1.0, 3.0]
    """
    return _lowered(weight, precision).float().numpy()


def halve(model: ModelProto, products: Sequence[Product], precision: Half, *, multiply: bool) -> None:
    """Lower products of a graph, in place; all else, inputs and outputs stay float32.

    Parameters
    ----------
    model
        A graph that torch's exporter wrote.
    products
        Some of `products_of` it.
    precision
        What to store weights in.
    multiply
        Whether to multiply in it, too; what is added to a product is added in float32.
    """
    graph = model.graph
    weights = frozenset().union(*(product.weights for product in products))
    tensors = [tensor for tensor in graph.initializer if tensor.name in weights]
    for tensor in tensors:
        graph.initializer.remove(tensor)
        graph.initializer.append(_stored(tensor, precision))
    nodes = [helper.make_node("Cast", [_name(t.name)], [t.name], to=TensorProto.FLOAT) for t in tensors]
    by_output = {product.output: product for product in products} if multiply else {}
    for node in graph.node:
        product = by_output.get(node.output[0])
        nodes.extend([node] if product is None else _multiplied(product, _ONNX[precision]))
    del graph.node[:]
    graph.node.extend(nodes)


def _multiplied(product: Product, kind: int) -> Iterable[NodeProto]:
    """Say a product in 16 bits, and what is added to it in float32."""
    left, right, low = (f"{product.output}.{part}" for part in ("left", "right", "low"))
    yield helper.make_node("Cast", [product.left], [left], to=kind)
    yield helper.make_node("Cast", [product.right], [right], to=kind)
    node = helper.make_node(product.node.op_type, [left, right], [low])
    node.attribute.extend(product.node.attribute)
    yield node
    if product.added is None:
        yield helper.make_node("Cast", [low], [product.output], to=TensorProto.FLOAT)
    else:
        full = f"{product.output}.full"
        yield helper.make_node("Cast", [low], [full], to=TensorProto.FLOAT)
        yield helper.make_node("Add", [full, product.added], [product.output])


def _stored(tensor: TensorProto, precision: Half) -> TensorProto:
    values = numpy_helper.to_array(tensor)
    content = _lowered(values, precision).view(torch.int16).numpy().astype("<i2").tobytes()
    return helper.make_tensor(_name(tensor.name), _ONNX[precision], values.shape, content, raw=True)


def _lowered(weight: npt.NDArray[np.float32], precision: Half) -> torch.Tensor:
    found = torch.from_numpy(np.array(weight, dtype=np.float32)).to(_TORCH[precision])
    if not found.isfinite().all():
        raise PrecisionError(
            f"precision: expected weights that {precision} holds, up to {torch.finfo(_TORCH[precision]).max:g}, found "
            f"one of {np.abs(weight).max():g}; choose bfloat16, int8 or float32."
        )
    return found


def _name(weight: str) -> str:
    return f"{weight}.stored"
