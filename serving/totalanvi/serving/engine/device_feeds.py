"""What the complete graphs are fed with: whole rows, of which a device is sent what is stored."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from totalanvi.serving.bundles.graphs import ENCODER, READOUT, ROWS, GraphSignature
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.engine.feeds import Block, Feed
from totalanvi.serving.engine.graphs import Floats, Graphs
from totalanvi.serving.engine.memory import Memory, Value
from totalanvi.serving.engine.places import place

__all__ = ["DeviceFeeds", "device_block_sizes"]

_MOST_CELLS = 8192
_MOST_NUMBERS = 1 << 25
"""The largest block, and the most numbers in its whole rows: 128 MiB of them."""


def device_block_sizes(n_genes: int) -> tuple[int, ...]:
    """Return how many cells are in a block on a device: few sizes, the largest as rows of so many genes allow.

    Examples
    --------
    >>> device_block_sizes(4_000), device_block_sizes(36_000)
    ((8, 64, 256, 1024, 8192), (8, 64, 256, 512))
    """
    most = min(_MOST_CELLS, 1 << max(_MOST_NUMBERS // n_genes, 8).bit_length() - 1)
    return (*(size for size in (8, 64, 256, 1024) if size < most), most)


class DeviceFeeds:
    """Inputs of the complete graphs, in their memory. Safe to use from several threads.

    Parameters
    ----------
    cells
        The query.
    n_batches
        Of the reference.
    fill
        For genes that the query lacks, of a readout: see `totalanvi.serving.engine.missing_genes`.
    graphs
        That make rows dense, where the bundle has `ROWS`.
    memory
        Of the device that computes them.
    """

    encoder: ClassVar[GraphSignature] = ENCODER
    readout: ClassVar[GraphSignature] = READOUT

    def __init__(
        self, cells: AlignedCells, n_batches: int, fill: Floats | None, graphs: Graphs, memory: Memory
    ) -> None:
        self._cells, self._n_batches, self._graphs, self._memory = cells, n_batches, graphs, memory
        self._same: dict[tuple[int, int, float], Value] = {}
        self._of_query: dict[str, Value] = {}
        if fill is not None:
            present = np.ones(cells.n_genes) if cells.present is None else cells.present
            self._of_query["present"] = memory.put(np.asarray(present, dtype=np.float32)[None])
            self._of_query["fill"] = memory.put(fill)

    def feed(self, block: Block) -> Feed:
        """Return the inputs by name."""
        cells, put = self._cells, self._memory.put
        feed = dict(self._of_query)
        feed["library"] = put(block.padded(cells.library[:, None]))
        # All zero is the code of a batch that the reference has not seen, which every query is.
        feed["batch"] = self._all(0, block.size, self._n_batches)
        measured = cells.measured[block.rows]
        if measured.any():
            feed["protein"] = put(block.padded(cells.protein))
            whole = block.n_rows == block.size and measured.all()
            feed["measured"] = self._all(1, *measured.shape) if whole else put(block.padded(cells.measured))
        else:
            feed["protein"] = feed["measured"] = self._all(0, block.size, cells.n_proteins)
        feed["rna"] = self._rows(block, feed["library"])
        return feed

    def _rows(self, block: Block, library: Value) -> Value:
        if ROWS not in self._graphs:
            rows = np.zeros((block.size, self._cells.n_genes), dtype=np.float32)
            self._cells.rna[block.rows].toarray(out=rows[: block.n_rows])
            return self._memory.put(rows)
        with self._memory.staging() as staging:

            def lend(n_stored: int) -> tuple[npt.NDArray[np.int32], Floats]:
                both = staging(8 * n_stored)
                return both[: 4 * n_stored].view(np.int32), both[4 * n_stored :].view(np.float32)

            places, counts = place(self._cells.rna, block.rows, lend)
            if len(places) == 0:
                # Nothing, in a place that holds nothing, rather than an array without memory.
                places, counts = np.zeros(1, dtype=np.int32), np.zeros(1, dtype=np.float32)
            stored: Feed = {"places": self._memory.put(places), "counts": self._memory.put(counts), "library": library}
        return self._graphs.stay(ROWS, stored, block.size)[0]

    def _all(self, number: float, n_rows: int, n_columns: int) -> Value:
        """Return an array of one number, which is put there once."""
        key = n_rows, n_columns, number
        if key not in self._same:
            self._same[key] = self._memory.put(np.full((n_rows, n_columns), number, dtype=np.float32))
        return self._same[key]
