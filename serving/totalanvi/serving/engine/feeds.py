"""What encoder and readout are fed with, block by block; here, from what first layers made of sparse rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.graphs import GraphSignature
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.engine.aligned import aligned_room
from totalanvi.serving.engine.memory import Value
from totalanvi.serving.engine.missing_genes import MissingGenes
from totalanvi.serving.engine.sparse_rows import Rows, SparseLayer

__all__ = ["BLOCK_SIZES", "Block", "Feed", "Feeds", "FirstLayersOnCores", "SparseFeeds", "blocks_of"]

BLOCK_SIZES = (8, 64, 256, 1024)
"""Cells in a block. Few sizes, so that every kernel is chosen once and for all cells alike; the small ones answer a
query of a few cells without computing hundreds."""

Floats = npt.NDArray[np.float32]
Feed = Mapping[str, Value]


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


def blocks_of(n_cells: int, workers: int = 1, sizes: Sequence[int] = BLOCK_SIZES) -> Iterator[Block]:
    """Cut a query into blocks so large that there is half a one for every worker; what is left, into smaller ones.

    No worker gets more than one of the smallest: it computes one of the next size sooner than two or three of them.

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
        size = max(size for size in sizes if size * workers <= 2 * left or size == sizes[0])
        if size == sizes[0] and left > workers * size:
            size = sizes[:2][-1]
        for _ in range(max(left // size, 1)):
            stop = min(start + size, n_cells)
            yield Block(slice(start, stop), size)
            start = stop


class Feeds(Protocol):
    """The inputs of a query's blocks."""

    @property
    def encoder(self) -> GraphSignature:
        """Which encoder the inputs are for."""

    @property
    def readout(self) -> GraphSignature:
        """Which readout, if there is one."""

    def feed(self, block: Block) -> Feed:
        """Return the inputs of both graphs by name."""


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
    graphs
        What comes after them, of the encoder and of a readout.
    fill
        For genes that the query lacks, of a readout: see `totalanvi.serving.engine.missing_genes`.
    """

    def __init__(
        self,
        cells: AlignedCells,
        n_batches: int,
        encoder: SparseLayer,
        readout: SparseLayer | None,
        graphs: tuple[GraphSignature, GraphSignature],
        fill: Floats | None,
    ) -> None:
        self._cells, self._n_batches = cells, n_batches
        self.encoder, self.readout = graphs
        self._fill = fill if fill is not None and fill.any() else None
        layers = {"from_rna": encoder} if readout is None else {"from_rna": encoder, "projected": readout}
        self._layers = {name: (layer, layer.start(cells.present)) for name, layer in layers.items()}

    def feed(self, block: Block) -> dict[str, Floats]:
        """Return the inputs by name."""
        cells = self._cells
        feed = {"protein": block.padded(cells.protein)} if "protein" in self.encoder.inputs else {}
        if "panel" in self.encoder.inputs:
            feed["panel"] = cells.measured[:1].astype(np.float32)
        elif feed:
            feed |= {
                "library": block.padded(cells.library[:, None]),
                "measured": block.padded(cells.measured),
                # All zero is the code of a batch that the reference has not seen, which every query is.
                "batch": np.zeros((block.size, self._n_batches), dtype=np.float32),
            }
        rows, library = Rows.of(cells.rna, block.rows), cells.library[block.rows]
        for name, (layer, start) in self._layers.items():
            made = aligned_room((block.size, layer.n_columns), np.float32)
            made[block.n_rows :] = 0
            layer.apply(rows, library, start, out=made[: block.n_rows])
            if name == "projected" and self._fill is not None:
                made += made[:, : len(self._fill)] @ self._fill
            feed[name] = made
        return feed


class FirstLayersOnCores:
    """The first layers of a bundle, ready to compute from sparse rows. Safe to use from several threads.

    Parameters
    ----------
    bundle
        Whose arrays are in place.
    """

    def __init__(self, bundle: Bundle) -> None:
        layers = bundle.first_layers
        self._n_batches = len(bundle.manifest.batches)
        self._encoder = SparseLayer(layers.encoder)
        self._readout = None if layers.readout is None else SparseLayer(layers.readout)
        self._missing_genes = MissingGenes.of(bundle)

    def feeds(self, cells: AlignedCells, graphs: tuple[GraphSignature, GraphSignature]) -> SparseFeeds:
        """Return the inputs of a query's blocks.

        Parameters
        ----------
        cells
            The query.
        graphs
            What comes after the first layers, of the encoder and of a readout.
        """
        fill = None if self._missing_genes is None else self._missing_genes.fill(cells.present)
        return SparseFeeds(cells, self._n_batches, self._encoder, self._readout, graphs, fill)
