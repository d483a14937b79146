"""The engine: aligned cells in, arrays out.

A cell's results depend on that cell, the bundle and the options alone. Cells are computed in blocks of a few fixed
sizes, padded with empty cells; random draws are the same for all cells; all else here works row by row.

On the CPU, first layers are computed from sparse rows, and each core has blocks of its own, from the first layer to
what their scores are worth. A device is sent sparse rows and makes them whole itself; a few blocks are there at a time,
so that one is sent while another computes. What it says of a block, the cores share.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import sparse

from totalanvi.machine.cores import usable_cores
from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.manifest import (
    CLASSIFIER,
    ENCODER_PANEL,
    ENCODER_REST,
    ENCODER_RNA,
    PROTEINS,
    READOUT_LABELS,
    READOUT_PANEL,
    READOUT_REST,
    READOUT_RNA,
    GraphSignature,
)
from totalanvi.serving.bundles.sixteen_bits import is_bfloat16
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.engine.ahead import compile_ahead
from totalanvi.serving.engine.certainty import Certainty
from totalanvi.serving.engine.cuda_memory import CudaMemory
from totalanvi.serving.engine.device_feeds import DeviceFeeds, device_block_sizes
from totalanvi.serving.engine.device_search import DeviceSearch
from totalanvi.serving.engine.feeds import BLOCK_SIZES, Block, Feed, Feeds, SparseFeeds, blocks_of
from totalanvi.serving.engine.finite import NotFinite
from totalanvi.serving.engine.graphs import Graphs
from totalanvi.serving.engine.imputation import Imputer
from totalanvi.serving.engine.memory import HostMemory, Memory
from totalanvi.serving.engine.missing_genes import MissingGenes
from totalanvi.serving.engine.placement import Computed, Placement
from totalanvi.serving.engine.readout import Readings
from totalanvi.serving.engine.scores import Scores
from totalanvi.serving.engine.sessions import Device, Provider, open_sessions, widths_of
from totalanvi.serving.engine.sparse_rows import SparseLayer
from totalanvi.serving.engine.workers import Workers
from totalanvi.serving.errors import BundleError, QueryError
from totalanvi.serving.mapped import MapOptions, MappedCells

__all__ = ["BLOCK_SIZES", "AbandonedError", "Engine"]

_FINITE_BEFORE = ("latent", "logits", "standardised", "components", "evidence", "protein", "expected")
_FINITE = ("confidence", "novelty", "probabilities", "coordinates", "protein_foreground")
"""Results that have to be finite, each after those that it follows from, and those that follow from all of these. An
interval may be unknown, and follows from the expected counts."""

_ROWS_IN_CACHE = 1024
"""Cells times samples that a core decodes proteins for at a time: whole blocks took a quarter longer."""

_BLOCKS_ON_DEVICE = 4
"""That are there at a time: their memory is the device's."""

_WARM_SAMPLES = 2
"""The fewest that are drawn at all: more of them only take longer, three tenths of a second in all."""

_MOST_CELLS = 4096
"""Cells that a core scores and judges at a time: many, so that little of its time goes to Python, whose lock all share;
few, so that all cores have some. With half as many, sixteen cores did two thirds as many cells a second."""

_log = logging.getLogger(__name__)


class AbandonedError(Exception):
    """Computing ended early, because nobody waits for the result any more."""


class Engine:
    """Computes a bundle's graphs and what follows from them. Safe to use from several threads at a time.

    Parameters
    ----------
    bundle
        The verified bundle.
    provider
        ``"cuda"``, ``"cpu"``, or ``"auto"`` for CUDA where it really serves and CPU elsewhere.
    threads
        Threads to compute with, beside a device for what is not computed there; None takes the cores that affinity and
        cgroup quota leave.
    complete_graphs
        Compute the bundle's complete graphs on a CPU, too, as on a device: the same results, more slowly.

    Raises
    ------
    ServingError
        When `provider` is unknown, or CUDA was asked for and does not serve.
    BundleError
        When a graph cannot be loaded, or is not what the manifest says.

    Examples
    --------
    >>> engine = Engine(Bundle.open("bundle/"))  # doctest: +SKIP
    >>> engine.run(cells, MapOptions(samples=1)).probabilities.shape  # doctest: +SKIP
    (4096, 8)
    """

    def __init__(
        self,
        bundle: Bundle,
        provider: Provider = "auto",
        threads: int | None = None,
        *,
        complete_graphs: bool = False,
    ) -> None:
        self.bundle = bundle
        self.threads = threads or usable_cores()
        first = bundle.first_layers
        compile_ahead(readout=bundle.readout is not None, paired=is_bfloat16(first.encoder.weight))
        sessions, self._device = open_sessions(bundle, provider, self.threads, after_first_layers=not complete_graphs)
        self._memory: Memory = HostMemory() if self._device == "cpu" else CudaMemory()
        self._graphs = Graphs(sessions, self._memory, widths_of(bundle))
        n_genes = len(bundle.manifest.genes.names)
        self._block_sizes = BLOCK_SIZES if self._device == "cpu" else device_block_sizes(n_genes)
        self._layers: tuple[SparseLayer, SparseLayer | None] | None = None
        if self._device == "cpu" and not complete_graphs:
            self._layers = SparseLayer(first.encoder), None if first.readout is None else SparseLayer(first.readout)
        self._placement, self._certainty = Placement(bundle), Certainty(bundle)
        self._search = DeviceSearch(self._placement, self._graphs, self._memory) if self._layers is None else None
        self._missing_genes: MissingGenes | None = None
        if bundle.readout is not None and first.readout is not None:
            self._missing_genes = MissingGenes(first.readout, bundle.readout)
        self._workers = Workers(self.threads, min(self.threads, _BLOCKS_ON_DEVICE) if self._layers is None else None)

    @property
    def provider(self) -> Device:
        """The device that computes: ``"cuda"`` only when it serves every graph."""
        return self._device

    def warm(self) -> None:
        """Compute empty cells once in every block size, so that the first query does not pay for it.

        Raises
        ------
        BundleError
            When the bundle cannot map even these.
        """
        started = time.perf_counter()
        manifest = self.bundle.manifest
        n_genes, n_proteins = len(manifest.genes.names), len(manifest.proteins)
        everything, labels_alone = MapOptions(samples=_WARM_SAMPLES), MapOptions(impute=False)
        # As many as are cut into blocks of a size: one for each worker.
        for n_cells in (size * self._workers.n_blocks for size in self._block_sizes):
            cells = AlignedCells(
                rna=sparse.csr_matrix((n_cells, n_genes), dtype=np.float32),
                library=np.zeros(n_cells, dtype=np.float32),
                protein=np.zeros((n_cells, n_proteins), dtype=np.float32),
                measured=np.zeros((n_cells, n_proteins), dtype=bool),
            )
            try:
                self.run(cells, everything)
                if self._layers is not None:
                    # By graphs of their own.
                    self.run(cells, labels_alone)
            except QueryError as error:
                raise BundleError(f"{self.bundle.path}: cannot map an empty cell: {error} Export again.") from error
        _log.info("Warm on %s after %.1f s.", self._device, time.perf_counter() - started)

    def run(self, cells: AlignedCells, options: MapOptions, abandoned: threading.Event | None = None) -> MappedCells:
        """Map cells.

        Parameters
        ----------
        cells
            In the model's feature order.
        options
            What to compute.
        abandoned
            Set by whoever waited for the result, from another thread, once it is not wanted any more: no further block
            of cells is computed then.

        Returns
        -------
        One row per cell, in order.

        Raises
        ------
        QueryError
            When the cells have other features than the model, or a result of one would not be finite.
        AbandonedError
            When `abandoned` was set.
        DeviceError
            When the device fails that computes; what CUDA lost, a process does not get back.
        """
        manifest = self.bundle.manifest
        n_proteins = len(manifest.proteins) if options.impute else None
        mapped = MappedCells.room(len(cells), len(manifest.labels), manifest.n_latent, n_proteins)

        def judge(rows: slice, scores: Scores) -> dict[str, npt.NDArray[np.generic]]:
            judged = mapped.rows(rows)
            self._certainty.judge(scores, cells.measured[rows], options, judged)
            return {name: array for name, array in judged.arrays().items() if name in _FINITE}

        self._map(cells, options, abandoned, judge)
        return mapped

    def score(self, cells: AlignedCells, options: MapOptions, abandoned: threading.Event | None = None) -> Scores:
        """Compute what is not yet calibrated; see `run`."""
        manifest = self.bundle.manifest
        n_proteins = len(manifest.proteins) if options.impute else None
        n_measures = self._placement.n_measures
        room = Scores.room(len(cells), len(manifest.labels), manifest.n_latent, n_measures, n_proteins)

        def keep(rows: slice, scores: Scores) -> dict[str, npt.NDArray[np.generic]]:
            room.put(rows, scores)
            return {}

        self._map(cells, options, abandoned, keep)
        return room

    def _map(
        self,
        cells: AlignedCells,
        options: MapOptions,
        abandoned: threading.Event | None,
        take: Callable[[slice, Scores], dict[str, npt.NDArray[np.generic]]],
    ) -> None:
        """Compute and score cells, and hand the scores on, which returns what of it has to be finite, by name."""
        self._require_fit(cells)
        feeds, not_finite = self._feeds(cells, imputes=options.impute), NotFinite()
        most_rows = None if self._device == "cuda" else _ROWS_IN_CACHE
        imputer = Imputer(self.bundle.manifest, options, self._decode, most_rows) if options.impute else None
        weights = None if imputer is None else imputer.weights

        def compute(block: Block) -> list[Computed]:
            if abandoned is not None and abandoned.is_set():
                raise AbandonedError
            return self._compute(block, cells, feeds, imputer).parts(_MOST_CELLS)

        def finish(part: Computed) -> None:
            start = part.rows.start
            if not not_finite.note(part.results(), start):
                return
            scores = self._placement.place(part, cells, weights)
            imputed = scores.imputed
            counts = {} if imputed is None else {"protein": imputed.denoised, "expected": imputed.expected}
            if not_finite.note(counts, start):
                not_finite.note(take(part.rows, scores), start)

        blocks = list(blocks_of(len(cells), self._workers.n_blocks, self._block_sizes))
        self._workers.through(compute, finish, blocks)
        not_finite.require_none(cells, (*_FINITE_BEFORE, *_FINITE))

    def _require_fit(self, cells: AlignedCells) -> None:
        manifest = self.bundle.manifest
        expected = (len(manifest.genes.names), len(manifest.proteins))
        if (cells.n_genes, cells.n_proteins) != expected:
            raise QueryError(
                f"Expected cells aligned to the {expected[0]} genes and {expected[1]} proteins of {manifest.name!r}, "
                f"found {cells.n_genes} genes and {cells.n_proteins} proteins; align them to this reference."
            )

    def _compute(self, block: Block, cells: AlignedCells, feeds: Feeds, imputer: Imputer | None) -> Computed:
        """Run the graphs for a block."""
        feed = feeds.feed(block)
        *posterior, latent = self._graphs.stay(feeds.encoder, feed, block.size)
        if self.bundle.readout is None:
            readings = None
            logits = self._graphs.fetch(CLASSIFIER, {"latent": latent}, block.size)[0]
        else:
            names = Readings.names(proteins=imputer is not None)
            readings = Readings.of(self._graphs.fetch(feeds.readout, feed, block.size, names), names)
            logits = readings.log_probabilities
        imputed = None
        if imputer is not None:
            z_mean, z_scale = posterior
            imputed = imputer.impute(z_mean, z_scale, block.size)
        nearest, least = None, None
        if self._search is not None:
            nearest = self._search.nearest(latent, block.size)
            if readings is not None:
                least = self._search.least(readings.components, cells.measured[block.rows])
        return Computed(block.rows, self._memory.get(latent), logits, readings, imputed, nearest, least)

    def _decode(self, feed: Feed, n_cells: int) -> list[npt.NDArray[np.float32]]:
        return self._graphs.fetch(PROTEINS, feed, n_cells)

    def _feeds(self, cells: AlignedCells, *, imputes: bool) -> Feeds:
        n_batches = len(self.bundle.manifest.batches)
        fill = None if self._missing_genes is None else self._missing_genes.fill(cells.present)
        if self._layers is None:
            return DeviceFeeds(cells, n_batches, fill, self._graphs, self._memory)
        return SparseFeeds(cells, n_batches, *self._layers, self._after_first_layers(cells, imputes=imputes), fill)

    def _after_first_layers(self, cells: AlignedCells, *, imputes: bool) -> tuple[GraphSignature, GraphSignature]:
        """Choose the graphs that compute no more than is asked for, of those that the bundle has."""
        if imputes:
            return ENCODER_REST, READOUT_REST
        of_panels = [(ENCODER_PANEL, READOUT_PANEL)] if cells.has_one_panel else []
        if not cells.measured.any():
            of_panels.insert(0, (ENCODER_RNA, READOUT_RNA))
        for encoder, readout in of_panels:
            if encoder in self._graphs and (self.bundle.readout is None or readout in self._graphs):
                return encoder, readout
        return ENCODER_REST, READOUT_LABELS if READOUT_LABELS in self._graphs else READOUT_REST
