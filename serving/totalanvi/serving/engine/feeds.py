"""What encoder and readout are fed with, block by block: whole rows of genes, or what a first layer made of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from totalanvi.serving.bundles.manifest import ENCODER, ENCODER_REST, READOUT, READOUT_REST, GraphSignature
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.engine.sparse_rows import Rows, SparseLayer

__all__ = ["BLOCK_SIZES", "Block", "DenseFeeds", "Feed", "Feeds", "SparseFeeds", "blocks_of"]

BLOCK_SIZES = (8, 64, 256, 1024)
"""Cells in a block. Few sizes, so that every kernel is chosen once and for all cells alike; the small ones answer a
query of a few cells without computing hundreds."""

Floats = npt.NDArray[np.float32]
Feed = dict[str, Floats]


@dataclass(frozen=True)
class Block:
    """Some cells of a query, computed together; rows beyond them are padding."""

    rows: slice
    size: int

    @property
    def n_rows(self) -> int:
        """Number of cells."""
        return int(self.rows.stop - self.rows.start)

    def padded(self, values: npt.NDArray[np.generic]) -> Floats:
        """Return the block's rows of (cells, columns), with zeros behind them, float32; not always a copy."""
        if self.n_rows == self.size:
            return np.ascontiguousarray(values[self.rows], dtype=np.float32)
        block = np.zeros((self.size, values.shape[1]), dtype=np.float32)
        block[: self.n_rows] = values[self.rows]
        return block


def blocks_of(n_cells: int, workers: int = 1) -> Iterator[Block]:
    """Cut a query into blocks so large that there is half a one for every worker; what is left, into smaller ones.

    Examples
    --------
    >>> [block.n_rows for block in blocks_of(2500, workers=2)]
    [1024, 1024, 256, 64, 64, 64, 4]
    >>> [(block.n_rows, block.size) for block in blocks_of(100)]
    [(64, 64), (36, 64)]
    """
    start = 0
    while start < n_cells:
        left = n_cells - start
        size = max(size for size in BLOCK_SIZES if size * workers <= 2 * left or size == BLOCK_SIZES[0])
        for _ in range(max(left // size, 1)):
            stop = min(start + size, n_cells)
            yield Block(slice(start, stop), size)
            start = stop


class Feeds(Protocol):
    """The inputs of a query's blocks."""

    encoder: ClassVar[GraphSignature]
    readout: ClassVar[GraphSignature]
    """Which graphs the inputs are for."""

    def feed(self, block: Block) -> Feed:
        """Return the inputs of both graphs by name."""


class DenseFeeds:
    """Inputs of the complete graphs, in the same memory again and again: use a block's before the next is asked for.

    Parameters
    ----------
    cells
        The query.
    n_batches
        Of the reference.
    fill
        For genes that the query lacks, of a readout: see `totalanvi.serving.engine.missing_genes`.
    """

    encoder: ClassVar[GraphSignature] = ENCODER
    readout: ClassVar[GraphSignature] = READOUT

    def __init__(self, cells: AlignedCells, n_batches: int, fill: Floats | None) -> None:
        size = next((size for size in BLOCK_SIZES if size >= len(cells)), BLOCK_SIZES[-1])
        self._cells, self._n_batches = cells, n_batches
        self._rna = np.zeros((size, cells.n_genes), dtype=np.float32)
        self._of_query = {"present": np.ones((1, cells.n_genes), dtype=np.float32)}
        if fill is not None:
            self._of_query["fill"] = fill
        if cells.present is not None:
            self._of_query["present"][0] = cells.present

    def feed(self, block: Block) -> Feed:
        """Return the inputs by name."""
        rna = self._rna[: block.size]
        self._cells.rna[block.rows].toarray(out=rna[: block.n_rows])
        rna[block.n_rows :] = 0
        return {"rna": rna, **self._of_query, **_beside_rna(self._cells, block, self._n_batches)}


class SparseFeeds:
    """Inputs of what comes after the first layers, which are computed here. Safe to use from several threads.

    Parameters
    ----------
    cells
        The query.
    n_batches
        Of the reference.
    encoder, readout
        First layers; None for a readout that there is not.
    fill
        As of `DenseFeeds`.
    """

    encoder: ClassVar[GraphSignature] = ENCODER_REST
    readout: ClassVar[GraphSignature] = READOUT_REST

    def __init__(
        self,
        cells: AlignedCells,
        n_batches: int,
        encoder: SparseLayer,
        readout: SparseLayer | None,
        fill: Floats | None,
    ) -> None:
        self._cells, self._n_batches = cells, n_batches
        self._fill = fill if fill is not None and fill.any() else None
        layers = {"from_rna": encoder} if readout is None else {"from_rna": encoder, "projected": readout}
        self._layers = {name: (layer, layer.start(cells.present)) for name, layer in layers.items()}

    def feed(self, block: Block) -> Feed:
        """Return the inputs by name."""
        feed = _beside_rna(self._cells, block, self._n_batches)
        rows, library = Rows.of(self._cells.rna, block.rows), self._cells.library[block.rows]
        for name, (layer, start) in self._layers.items():
            feed[name] = np.zeros((block.size, layer.n_columns), dtype=np.float32)
            layer.apply(rows, library, start, out=feed[name][: block.n_rows])
        if self._fill is not None:
            projected = feed["projected"]
            projected += projected[:, : len(self._fill)] @ self._fill
        return feed


def _beside_rna(cells: AlignedCells, block: Block, n_batches: int) -> Feed:
    return {
        "library": block.padded(cells.library[:, None]),
        "protein": block.padded(cells.protein),
        "measured": block.padded(cells.measured),
        # All zero is the code of a batch that the reference has not seen, which every query is.
        "batch": np.zeros((block.size, n_batches), dtype=np.float32),
    }
