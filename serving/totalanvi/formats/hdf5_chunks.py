"""Compressed HDF5 in several threads: HDF5 itself takes one piece after the other apart, and each takes its time."""

from __future__ import annotations

import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import h5py

__all__ = ["InflatedVector", "is_deflated"]

_THREADS = 4
"""Enough to keep up with sixteen cores that score cells, by the time that a cell's counts take to inflate."""

_DEFLATE, _SHUFFLE = 1, 2
"""Numbers of HDF5's filters."""


def is_deflated(stored: Any) -> bool:
    """Tell whether an array is one of HDF5 that is compressed with gzip and nothing else."""
    if getattr(stored, "compression", None) != "gzip" or stored.ndim != 1 or stored.dtype.kind not in "buif":
        return False
    return _filters(stored) in ([_DEFLATE], [_SHUFFLE, _DEFLATE])


class InflatedVector:
    """A compressed data set (values,), sliced like an array; its pieces are inflated by several threads.

    Parameters
    ----------
    stored
        For which `is_deflated` is true.

    Examples
    --------
    >>> with h5py.File("query.h5ad") as file:  # doctest: +SKIP
    ...     first = InflatedVector(file["X/data"])[:1000]
    """

    def __init__(self, stored: h5py.Dataset) -> None:
        self._stored = stored
        self._shuffled = _SHUFFLE in _filters(stored)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="inflate")
        self.shape: tuple[int, ...] = stored.shape
        self.dtype: np.dtype[Any] = stored.dtype

    def __getitem__(self, values: slice) -> npt.NDArray[Any]:
        """Read neighbouring values.

        Raises
        ------
        ValueError
            When a piece is not as long as it should be; one that cannot be inflated raises ``zlib.error``.
        """
        first, last, _ = values.indices(self.shape[0])
        size = int(self._stored.chunks[0])
        found = np.empty(max(last - first, 0), dtype=self.dtype)

        def put(start: int, compressed: bytes) -> None:
            piece = self._inflate(compressed, size)
            low, high = max(first, start), min(last, start + size)
            found[low - first : high - first] = piece[low - start : high - start]

        pieces = []
        for start in range(first - first % size, last, size):
            try:
                left_out, compressed = self._stored.id.read_direct_chunk((start,))
            except RuntimeError:
                left_out = True
            if left_out:
                # A piece that is stored as it is, since it would not become shorter, or one that was never written.
                return np.asarray(self._stored[first:last])
            pieces.append((start, compressed))
        for each in [self._pool.submit(put, *piece) for piece in pieces]:
            each.result()
        return found

    def _inflate(self, compressed: bytes, size: int) -> npt.NDArray[Any]:
        n_bytes = size * self.dtype.itemsize
        # Not more than that, whatever a file from a stranger may hold.
        inflated = zlib.decompressobj().decompress(compressed, n_bytes)
        if len(inflated) != n_bytes:
            raise ValueError(f"{len(inflated)} bytes in a piece of {self._stored.name!r}, where {n_bytes} belong")
        if self._shuffled:
            by_byte = np.frombuffer(inflated, dtype=np.uint8).reshape(self.dtype.itemsize, size)
            return np.ascontiguousarray(by_byte.T).view(self.dtype).ravel()
        return np.frombuffer(inflated, dtype=self.dtype)


def _filters(stored: h5py.Dataset) -> list[int]:
    properties = stored.id.get_create_plist()
    return [properties.get_filter(place)[0] for place in range(properties.get_nfilters())]
