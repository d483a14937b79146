"""Arrays that begin where a line of the cache does.

The widest registers load as much as a line holds. NumPy's arrays begin 16 bytes behind one, so that each load of theirs
needs two lines: the sparse product took a seventh longer.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["aligned", "aligned_room"]

_LINE = 64
"""Bytes."""

_Number = TypeVar("_Number", bound=np.generic)


def aligned_room(shape: tuple[int, ...], dtype: type[_Number]) -> npt.NDArray[_Number]:
    """Return an array that holds anything.

    Parameters
    ----------
    shape
        Of the array, in C order.
    dtype
        Of its numbers.

    Examples
    --------
    >>> aligned_room((3, 5), np.float32).ctypes.data % 64
    0
    """
    n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(n_bytes + _LINE, dtype=np.uint8)
    start = -memory.ctypes.data % _LINE
    return memory[start : start + n_bytes].view(dtype).reshape(shape)


def aligned(array: npt.NDArray[_Number]) -> npt.NDArray[_Number]:
    """Return the array itself if it begins with a line and is in C order, else a copy that does."""
    if array.flags.c_contiguous and array.ctypes.data % _LINE == 0:
        return array
    copy = aligned_room(array.shape, array.dtype.type)
    copy[...] = array
    return copy
