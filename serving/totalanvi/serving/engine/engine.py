"""The engine: aligned cells in, arrays out.

A cell's results depend on that cell, the bundle and the options alone. Cells are computed in blocks of a few fixed
sizes, padded with empty cells; random draws are the same for all cells; all else here works row by row.

On the CPU, first layers are computed from sparse rows, and each core has blocks of its own. A device is sent sparse
rows and makes them whole itself; a few blocks are there at a time, so that one is sent while another computes.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import sparse

from totalanvi.machine.cores import usable_cores
from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.manifest import CLASSIFIER, PROTEINS
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.engine.ahead import compile_ahead
from totalanvi.serving.engine.certainty import Certainty
from totalanvi.serving.engine.cuda_memory import CudaMemory
from totalanvi.serving.engine.device_feeds import DeviceFeeds, device_block_sizes
from totalanvi.serving.engine.feeds import BLOCK_SIZES, Block, Feed, Feeds, SparseFeeds, blocks_of
from totalanvi.serving.engine.graphs import Graphs
from totalanvi.serving.engine.imputation import Imputer, batch_weights
from totalanvi.serving.engine.memory import HostMemory, Memory, on_host
from totalanvi.serving.engine.missing_genes import MissingGenes
from totalanvi.serving.engine.neighbours import Landmarks
from totalanvi.serving.engine.readout import N_MEASURES, Readings, Readout
from totalanvi.serving.engine.scores import Imputed, Scores
from totalanvi.serving.engine.sessions import Device, Provider, open_sessions, widths_of
from totalanvi.serving.engine.sparse_rows import SparseLayer
from totalanvi.serving.errors import BundleError, QueryError
from totalanvi.serving.mapped import MapOptions, MappedCells

__all__ = ["BLOCK_SIZES", "AbandonedError", "Engine"]

_MAY_BE_UNKNOWN = ("protein_low", "protein_high")

_ROWS_IN_CACHE = 1024
"""Cells times samples that a core decodes proteins for at a time: whole blocks took a quarter longer."""

_BLOCKS_ON_DEVICE = 4
"""That are there at a time: their memory is the device's."""

_WARM_SAMPLES = 2
"""The fewest that are drawn at all: more of them only take longer, three tenths of a second in all."""

_Part = TypeVar("_Part")
_Answer = TypeVar("_Answer")

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
        compile_ahead(readout=bundle.readout is not None)
        first = bundle.first_layers
        sessions, self._device = open_sessions(bundle, provider, self.threads, after_first_layers=not complete_graphs)
        self._memory: Memory = HostMemory() if self._device == "cpu" else CudaMemory()
        self._graphs = Graphs(sessions, self._memory, widths_of(bundle))
        n_blocks = self.threads if self._device == "cpu" else min(self.threads, _BLOCKS_ON_DEVICE)
        self._workers, self._turns = n_blocks, threading.BoundedSemaphore(n_blocks)
        n_genes = len(bundle.manifest.genes.names)
        self._block_sizes = BLOCK_SIZES if self._device == "cpu" else device_block_sizes(n_genes)
        self._layers: tuple[SparseLayer, SparseLayer | None] | None = None
        if self._device == "cpu" and not complete_graphs:
            self._layers = SparseLayer(first.encoder), None if first.readout is None else SparseLayer(first.readout)
        self._landmarks = Landmarks(bundle.reference.latent, bundle.reference.coordinates)
        self._certainty = Certainty(bundle)
        self._readout = None if bundle.readout is None else Readout(bundle.readout)
        self._missing_genes: MissingGenes | None = None
        if bundle.readout is not None and first.readout is not None:
            self._missing_genes = MissingGenes(first.readout, bundle.readout)
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="totalanvi-engine")

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
        # As many as are cut into blocks of a size: one for each worker.
        for n_cells in (size * self._workers for size in self._block_sizes):
            cells = AlignedCells(
                rna=sparse.csr_matrix((n_cells, n_genes), dtype=np.float32),
                library=np.zeros(n_cells, dtype=np.float32),
                protein=np.zeros((n_cells, n_proteins), dtype=np.float32),
                measured=np.zeros((n_cells, n_proteins), dtype=bool),
            )
            try:
                self.run(cells, MapOptions(samples=_WARM_SAMPLES))
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
        scores = self.score(cells, options, abandoned)

        def judge(rows: slice) -> MappedCells:
            return self._certainty.judge(scores.rows(rows), cells.measured[rows], options)

        parts = self._each(judge, _parts_of(len(cells)))
        mapped = parts[0] if len(parts) == 1 else MappedCells.concatenate(parts)
        # An interval may be unknown, and follows from the expected counts, which are finite.
        known = {name: array for name, array in mapped.arrays().items() if name not in _MAY_BE_UNKNOWN}
        _require_finite({name: array for name, array in known.items() if array.dtype.kind == "f"}, cells)
        return mapped

    def score(self, cells: AlignedCells, options: MapOptions, abandoned: threading.Event | None = None) -> Scores:
        """Compute what is not yet calibrated; see `run`."""
        self._require_fit(cells)
        latent, logits, imputed, readings = self._compute(cells, options, abandoned)
        _require_finite({"latent": latent, "logits": logits}, cells)
        if readings is not None:
            _require_finite(readings.arrays(), cells)
        scores = Scores(
            latent,
            np.empty((len(cells), 2), dtype=np.float32),
            logits,
            np.empty((len(cells), 1 if self._readout is None else N_MEASURES), dtype=np.float64),
            np.empty(len(cells), dtype=np.float64),
            imputed,
        )
        self._each(lambda rows: self._place(cells, scores, readings, rows, options), _parts_of(len(cells)))
        if imputed is not None:
            _require_finite({"protein": imputed.denoised, "expected": imputed.expected}, cells)
        return scores

    def _place(
        self, cells: AlignedCells, scores: Scores, readings: Readings | None, rows: slice, options: MapOptions
    ) -> None:
        """Fill in, for some cells, what follows from the graphs of all."""
        neighbours = self._landmarks.find(scores.latent[rows])
        scores.coordinates[rows] = neighbours.coordinates
        if self._readout is None or readings is None:
            scores.strangeness[rows, 0] = scores.novelty[rows] = neighbours.distance
            return
        of_rows, measured = readings.rows(rows), cells.measured[rows]
        strangeness = self._readout.strangeness(of_rows, cells.protein[rows], measured, neighbours.distance)
        scores.strangeness[rows], scores.novelty[rows] = strangeness, self._readout.novelty(strangeness)
        if scores.imputed is not None:
            weights = batch_weights(self.bundle.manifest, options.impute_as)
            decoded = scores.imputed.rows(rows)
            scores.imputed.put(rows, self._readout.impute(decoded, of_rows, measured, weights))

    def _require_fit(self, cells: AlignedCells) -> None:
        manifest = self.bundle.manifest
        expected = (len(manifest.genes.names), len(manifest.proteins))
        if (cells.n_genes, cells.n_proteins) != expected:
            raise QueryError(
                f"Expected cells aligned to the {expected[0]} genes and {expected[1]} proteins of {manifest.name!r}, "
                f"found {cells.n_genes} genes and {cells.n_proteins} proteins; align them to this reference."
            )

    def _compute(
        self, cells: AlignedCells, options: MapOptions, abandoned: threading.Event | None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], Imputed | None, Readings | None]:
        """Run the graphs block by block: latent (cells, n_latent), logits (cells, labels), proteins and readings.

        A readout's logits take the place of the classifier's, which then has nothing to say.
        """
        manifest = self.bundle.manifest
        n_labels, n_proteins = len(manifest.labels), len(manifest.proteins)
        latent = np.empty((len(cells), manifest.n_latent), dtype=np.float32)
        most_rows = None if self._device == "cuda" else _ROWS_IN_CACHE
        imputer = Imputer(manifest, options, self._decode, most_rows) if options.impute else None
        imputed = None if imputer is None else Imputed.empty(len(cells), n_proteins)
        readings = None if self._readout is None else self._readout.room(len(cells), proteins=options.impute)
        logits = np.empty((len(cells), n_labels), dtype=np.float32) if readings is None else readings.log_probabilities
        feeds = self._feeds(cells)

        def compute(block: Block) -> None:
            with self._turns:
                if abandoned is not None and abandoned.is_set():
                    raise AbandonedError
                feed = feeds.feed(block)
                z_mean, z_scale, block_latent = self._graphs.stay(feeds.encoder, feed, block.size)
                latent[block.rows] = on_host(block_latent)[: block.n_rows]
                if readings is None:
                    said = self._graphs.fetch(CLASSIFIER, {"latent": block_latent}, block.size)
                    logits[block.rows] = said[0][: block.n_rows]
                else:
                    readings.put(block.rows, self._graphs.fetch(feeds.readout, feed, block.size, readings.arrays()))
                if imputer is not None and imputed is not None:
                    imputed.put(block.rows, imputer.impute(z_mean, z_scale, block.size))

        self._each(compute, list(blocks_of(len(cells), self._workers, self._block_sizes)))
        return latent, logits, imputed, readings

    def _decode(self, feed: Feed, n_cells: int) -> list[npt.NDArray[np.float32]]:
        return self._graphs.fetch(PROTEINS, feed, n_cells)

    def _feeds(self, cells: AlignedCells) -> Feeds:
        n_batches = len(self.bundle.manifest.batches)
        fill = None if self._missing_genes is None else self._missing_genes.fill(cells.present)
        if self._layers is None:
            return DeviceFeeds(cells, n_batches, fill, self._graphs, self._memory)
        return SparseFeeds(cells, n_batches, *self._layers, fill)

    def _each(self, function: Callable[[_Part], _Answer], parts: Sequence[_Part]) -> list[_Answer]:
        """Call a function for each part of a query, on all threads; for a single part, here."""
        if len(parts) == 1 or self.threads == 1:
            return [function(part) for part in parts]
        return list(self._pool.map(function, parts))


def _parts_of(n_cells: int) -> list[slice]:
    """Cut cells into parts for what needs no blocks of fixed sizes; one part, if an empty one, at least."""
    starts = range(0, max(n_cells, 1), BLOCK_SIZES[-1])
    return [slice(start, min(start + BLOCK_SIZES[-1], n_cells)) for start in starts]


def _require_finite(results: Mapping[str, npt.NDArray[np.generic]], cells: AlignedCells) -> None:
    for name, array in results.items():
        if np.isfinite(array).all():
            continue
        broken = np.flatnonzero(~np.isfinite(array.reshape(len(cells), math.prod(array.shape[1:]))).all(axis=1))
        first = int(broken[0])
        raise QueryError(
            f"Expected finite results, found {name!r} not finite for {broken.size} of {len(cells)} cells, first in "
            f"row {first} with a total count of {cells.library[first]:g}; check its raw counts, or leave it out."
        )
