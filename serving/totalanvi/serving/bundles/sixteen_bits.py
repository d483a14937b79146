"""Weights that 16 bits hold, as a bundle in lower precision has them: as they are stored, and in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["from_stored", "is_bfloat16", "stored"]

_LOWER = np.uint32(0xFFFF)


def is_bfloat16(weight: npt.NDArray[np.float32]) -> bool:
    """Say whether all of these weights are bfloat16: the upper half of a float32.

    Examples
    --------
    >>> is_bfloat16(np.float32([1.5, -0.25])), is_bfloat16(np.float32([1.5, 0.1]))
    (True, False)
    """
    return not (weight.view(np.uint32) & _LOWER).any()


def stored(weight: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
    """Return weights as a file holds them: bfloat16 as its bits in uint16, then float16, where these lose nothing.

    Examples
    --------
    >>> [str(stored(np.float32([value])).dtype) for value in (1.5, 1 + 2**-10, 0.1)]
    ['uint16', 'float16', 'float32']
    """
    if is_bfloat16(weight):
        return (weight.view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    with np.errstate(over="ignore"):
        half = weight.astype(np.float16)
    return half if np.array_equal(half, weight) else weight


def from_stored(weight: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the same in float32; what no file has is left as it is.

    Examples
    --------
    >>> from_stored(stored(np.float32([1.5, -0.25]))).tolist()
    [1.5, -0.25]
    """
    if weight.dtype == np.uint16:
        return (weight.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return weight.astype(np.float32) if weight.dtype == np.float16 else weight
