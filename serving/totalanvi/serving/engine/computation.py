"""The graphs of a bundle, block by block: on cores behind sparse first layers, or complete ones on a device.

What differs between the two is decided here, once for a bundle and once for a query; whoever takes the blocks that were
computed sees the same of both.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.graphs import (
    CLASSIFIER,
    ENCODER_PANEL,
    ENCODER_REST,
    ENCODER_RNA,
    PROTEINS,
    READOUT,
    READOUT_LABELS,
    READOUT_PANEL,
    READOUT_REST,
    READOUT_RNA,
    GraphSignature,
)
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.engine.bounds import Bounds
from totalanvi.serving.engine.cuda_memory import CudaMemory
from totalanvi.serving.engine.decodings import decodings
from totalanvi.serving.engine.device_feeds import DeviceFeeds, device_block_sizes
from totalanvi.serving.engine.device_imputer import DeviceImputation
from totalanvi.serving.engine.device_search import DeviceSearch
from totalanvi.serving.engine.feeds import BLOCK_SIZES, Block, Feed, Feeds, FirstLayersOnCores
from totalanvi.serving.engine.graphs import Graphs
from totalanvi.serving.engine.imputation import CellsToImpute, Imputer, ImputesProteins
from totalanvi.serving.engine.memory import HostMemory, Memory, Value
from totalanvi.serving.engine.missing_genes import MissingGenes
from totalanvi.serving.engine.placement import Computed, Placement
from totalanvi.serving.engine.readout import Readings
from totalanvi.serving.engine.sessions import Device, Sessions
from totalanvi.serving.engine.widths import widths_of
from totalanvi.serving.mapped import MapOptions

__all__ = ["Computation"]

_ROWS_IN_CACHE = 1024
"""Cells times samples that a core decodes proteins for at a time: whole blocks took a quarter longer."""


class Computation:
    """Computes the graphs of a bundle. Safe to use from several threads at a time.

    Parameters
    ----------
    bundle
        The verified bundle.
    sessions, device
        Its graphs, and what computes them: see `totalanvi.serving.engine.sessions.open_sessions`.
    placement
        What the bundle knows of the reference's cells.
    on_cores
        Whether each core has blocks of its own, behind sparse first layers; else complete graphs are fed as a device
        is, whatever computes them.

    Attributes
    ----------
    on_cores : bool
        As above.
    block_sizes : tuple of int
        How many cells may be in a block, ascending.
    """

    def __init__(
        self, bundle: Bundle, sessions: Sessions, device: Device, placement: Placement, *, on_cores: bool
    ) -> None:
        self._bundle, self._device, self.on_cores = bundle, device, on_cores
        self._memory: Memory = HostMemory() if device == "cpu" else CudaMemory()
        self._graphs = Graphs(sessions, self._memory, widths_of(bundle))
        self._first_layers: FirstLayersOnCores | None = None
        self._missing_genes: MissingGenes | None = None
        self._search: DeviceSearch | None = None
        self._imputation: DeviceImputation | None = None
        if on_cores:
            self._first_layers = FirstLayersOnCores(bundle)
        else:
            self._missing_genes = MissingGenes.of(bundle)
            self._search = DeviceSearch(placement, self._graphs, self._memory)
            self._imputation = DeviceImputation(bundle, self._graphs, self._memory)
        n_genes = len(bundle.manifest.genes.names)
        self.block_sizes = BLOCK_SIZES if device == "cpu" else device_block_sizes(n_genes)

    def of_query(
        self,
        cells: AlignedCells,
        options: MapOptions,
        weights: npt.NDArray[np.float64] | None,
        bounds: Callable[[MapOptions], Bounds],
    ) -> Callable[[Block], Computed]:
        """Return what computes the blocks of a query.

        Parameters
        ----------
        cells
            The query.
        options
            What to compute.
        weights
            What each batch counts for in each imputed protein; None where none are imputed.
        bounds
            Returns those of imputed proteins, for a device that can look there.
        """
        imputer = None if weights is None else self._imputer(options, weights, bounds)
        return partial(self._compute, cells, self._feeds(cells, imputes=weights is not None), imputer)

    def _compute(self, cells: AlignedCells, feeds: Feeds, imputer: ImputesProteins | None, block: Block) -> Computed:
        feed = feeds.feed(block)
        *posterior, latent = self._graphs.stay(feeds.encoder, feed, block.size)
        readings, standardised = None, None
        if self._bundle.readout is None:
            logits = self._graphs.fetch(CLASSIFIER, {"latent": latent}, block.size)[0]
        else:
            readings, standardised = self._read(cells, feeds, imputer, block, feed)
            logits = readings.log_probabilities
        imputed = None
        if imputer is not None:
            z_mean, z_scale = posterior
            imputed = imputer.impute(CellsToImpute(z_mean, z_scale, feed["measured"], standardised, block.size))
        nearest = None if self._search is None else self._search.nearest(latent, block.size)
        return Computed(block.rows, self._memory.get(latent), logits, readings, imputed, nearest).trimmed()

    def _read(
        self, cells: AlignedCells, feeds: Feeds, imputer: ImputesProteins | None, block: Block, feed: Feed
    ) -> tuple[Readings, Value | None]:
        """Run the readout's graphs; return what is fetched of them, and proteins where a device goes on with these."""
        search = self._search
        looks_up = search is not None and search.looks_up_labels(cells.measured[block.rows])
        left = [*(["components"] if looks_up else []), *(["standardised"] if imputer and imputer.takes_readout else [])]
        unread = {*left, *([] if imputer else ["standardised"])}
        fetched = [name for name in READOUT.outputs if name not in unread]
        values, arrays = self._graphs.compute(feeds.readout, feed, block.size, left, fetched)
        there, read = dict(zip(left, values, strict=True)), dict(zip(fetched, arrays, strict=True))
        if search is not None and looks_up:
            read["least"] = search.least(there["components"], block.size)
        return Readings.of(read), there.get("standardised")

    def _imputer(
        self, options: MapOptions, weights: npt.NDArray[np.float64], bounds: Callable[[MapOptions], Bounds]
    ) -> ImputesProteins:
        if self._imputation is not None and self._imputation.serves:
            return self._imputation.imputer(options, weights, bounds)
        to_decode = decodings(self._bundle.manifest, options.samples, weights)
        most_rows = None if self._device == "cuda" else _ROWS_IN_CACHE
        return Imputer(to_decode, partial(self._graphs.fetch, PROTEINS), most_rows)

    def _feeds(self, cells: AlignedCells, *, imputes: bool) -> Feeds:
        if self._first_layers is not None:
            return self._first_layers.feeds(cells, self._after_first_layers(cells, imputes=imputes))
        fill = None if self._missing_genes is None else self._missing_genes.fill(cells.present)
        return DeviceFeeds(cells, len(self._bundle.manifest.batches), fill, self._graphs, self._memory)

    def _after_first_layers(self, cells: AlignedCells, *, imputes: bool) -> tuple[GraphSignature, GraphSignature]:
        """Choose the graphs that compute no more than is asked for, of those that the bundle has."""
        if imputes:
            return ENCODER_REST, READOUT_REST
        of_panels = [(ENCODER_PANEL, READOUT_PANEL)] if cells.has_one_panel else []
        if not cells.measured.any():
            of_panels.insert(0, (ENCODER_RNA, READOUT_RNA))
        for encoder, readout in of_panels:
            if encoder in self._graphs and (self._bundle.readout is None or readout in self._graphs):
                return encoder, readout
        return ENCODER_REST, READOUT_LABELS if READOUT_LABELS in self._graphs else READOUT_REST
