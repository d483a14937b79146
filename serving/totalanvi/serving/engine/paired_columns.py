"""Weights that fit into 16 bits, two in a number of 32: half as many bytes are read of them.

They are bfloat16, the upper half of a number in single precision: a shift makes one of the lower one of a pair, a mask
of the upper one. A bundle that was exported in bfloat16 has such weights. What float16 holds takes CPUs with the widest
registers two cycles to convert, which is as long as it saves.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["in_pairs"]

_PAIRED = 16
"""Columns that follow one another in lower halves; the next ones are in the upper halves of the same numbers."""

_UPPER = np.uint32(0xFFFF0000)


def in_pairs(weight: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    """Put columns beside each other, (genes, columns) → (genes, columns / 2).

    Parameters
    ----------
    weight
        In bfloat16, though float32 here; as many columns as are a multiple of 32.

    Examples
    --------
    >>> hex(in_pairs(np.repeat(np.float32([[1, -2]]), 16, axis=1))[0, 0])
    '0xc0003f80'
    """
    bits = weight.view(np.uint32).reshape(len(weight), -1, 2, _PAIRED)
    pairs: npt.NDArray[np.uint32] = (bits[:, :, 0] >> np.uint32(16)) | (bits[:, :, 1] & _UPPER)
    return pairs.reshape(len(weight), -1)
