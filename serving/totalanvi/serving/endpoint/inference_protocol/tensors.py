"""Arrays as tensors of the protocol: in JSON, or as plain bytes behind it, little-endian and row-major."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from totalanvi.serving.endpoint.inference_protocol.schemas import Tensor
from totalanvi.serving.errors import QueryError

__all__ = ["BINARY_SIZE", "COUNT_TYPES", "as_tensor", "datatype_of", "read_tensor"]

COUNT_TYPES = {"FP32": "<f4", "FP64": "<f8", "INT32": "<i4", "INT64": "<i8"}
"""Types that counts may come in, as NumPy calls them."""

BINARY_SIZE = "binary_data_size"
"""Parameter of a tensor whose values stand behind the JSON: how many bytes they are."""

_WRITTEN = {"f": ("FP32", "<f4"), "b": ("BOOL", "?"), "U": ("BYTES", "")}


def read_tensor(tensor: Tensor, binary: memoryview, width: int) -> npt.NDArray[np.float32]:
    """Return the counts of a tensor, (cells, width).

    Parameters
    ----------
    tensor
        What the JSON says.
    binary
        What stands behind it for this tensor; empty where the values are in the JSON.
    width
        How many columns it has to have.

    Raises
    ------
    QueryError
        When type, shape and values do not fit each other, or the reference.
    """
    name, shape = tensor.name, tensor.shape
    if tensor.datatype not in COUNT_TYPES:
        raise QueryError(f"{name}: expected a datatype of {sorted(COUNT_TYPES)}, found {tensor.datatype!r}.")
    if len(shape) != 2 or shape[0] < 1 or shape[1] != width:
        raise QueryError(
            f"{name}: expected the shape [cells, {width}], in the order of /v1/features, with at least one cell; "
            f"found {shape}."
        )
    dtype = np.dtype(COUNT_TYPES[tensor.datatype])
    n_values = math.prod(shape)
    if tensor.data is None:
        if len(binary) != n_values * dtype.itemsize:
            raise QueryError(
                f"{name}: expected {n_values * dtype.itemsize} bytes for the shape {shape} and {tensor.datatype}, "
                f"found {len(binary)}; send `data`, or `{BINARY_SIZE}` and as many bytes."
            )
        values = np.frombuffer(binary, dtype)
    else:
        values = _from_json(name, tensor.data, n_values)
    with np.errstate(over="ignore"):
        return values.astype(np.float32).reshape(shape)


def _from_json(name: str, data: list[Any], n_values: int) -> npt.NDArray[np.float64]:
    try:
        # A value that is missing (null) is not a number.
        values = np.array(data, dtype=np.float64).ravel()
    except (TypeError, ValueError, OverflowError) as error:
        raise QueryError(f"{name}: expected numbers in lists of the same length, found something else.") from error
    if values.size != n_values:
        raise QueryError(f"{name}: expected {n_values} values as the shape says, found {values.size}.")
    return values


def datatype_of(array: npt.NDArray[Any]) -> str:
    """Return the protocol's name of an array's type."""
    return _WRITTEN[array.dtype.kind][0]


def as_tensor(name: str, array: npt.NDArray[Any], binary: bool) -> tuple[Tensor, bytes]:
    """Return an array as a tensor, and the bytes that are to stand behind the JSON.

    Parameters
    ----------
    name
        What the tensor is called.
    array
        Numbers, booleans or text.
    binary
        Whether its values are to stand behind the JSON.

    Examples
    --------
    >>> tensor, content = as_tensor("label", np.array(["NK", "unknown"]), binary=False)
    >>> tensor.datatype, tensor.data, content
    ('BYTES', ['NK', 'unknown'], b'')
    """
    datatype, shape = datatype_of(array), list(array.shape)
    if binary:
        content = _bytes_of(array)
        return Tensor(name=name, shape=shape, datatype=datatype, parameters={BINARY_SIZE: len(content)}), content
    values = array.ravel().tolist()
    if array.dtype.kind == "f":
        # The shortest decimals of single precision, and null for what JSON has no number for.
        values = [None if math.isnan(value) else float(str(np.float32(value))) for value in values]
    return Tensor(name=name, shape=shape, datatype=datatype, data=values), b""


def _bytes_of(array: npt.NDArray[Any]) -> bytes:
    kind = array.dtype.kind
    if kind != "U":
        return array.astype(_WRITTEN[kind][1]).tobytes()
    texts = [text.encode() for text in array.ravel().tolist()]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)
