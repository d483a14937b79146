"""The engine: aligned cells in, arrays out.

A cell's results depend on that cell, the bundle and the options alone. Cells are computed in blocks of a few fixed
sizes, padded with empty cells; random draws are the same for all cells; all else here works row by row.

On the CPU, first layers are computed from sparse rows, and each core has blocks of its own, from the first layer to
what their scores are worth. A device is sent sparse rows and makes them whole itself; a few blocks are there at a time,
so that one is sent while another computes. What is left to do for a block, one of the cores does.
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
from totalanvi.serving.bundles.sixteen_bits import is_bfloat16
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.engine.ahead import compile_ahead
from totalanvi.serving.engine.certainty import Certainty
from totalanvi.serving.engine.computation import Computation
from totalanvi.serving.engine.decodings import batch_weights
from totalanvi.serving.engine.feeds import BLOCK_SIZES, Block, blocks_of
from totalanvi.serving.engine.finite import NotFinite
from totalanvi.serving.engine.placement import Computed, Placement
from totalanvi.serving.engine.scores import Scores
from totalanvi.serving.engine.sessions import Device, Provider, open_sessions
from totalanvi.serving.engine.workers import Workers
from totalanvi.serving.errors import BundleError, QueryError
from totalanvi.serving.mapped import MapOptions, MappedCells

__all__ = ["BLOCK_SIZES", "AbandonedError", "Engine"]

_FINITE_BEFORE = ("latent", "logits", "standardised", "components", "evidence", "least", "protein", "expected")
_FINITE = ("confidence", "novelty", "probabilities", "coordinates", "protein_foreground")
"""Results that have to be finite, each after those that it follows from, and those that follow from all of these. An
interval may be unknown, and follows from the expected counts."""

_BLOCKS_ON_DEVICE = 4
"""That are there at a time: their memory is the device's."""

_WARM_SAMPLES = 2
"""The fewest that are drawn at all: more of them only take longer, three tenths of a second in all."""

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
        paired = is_bfloat16(bundle.first_layers.encoder.weight)
        compile_ahead(readout=bundle.readout is not None, paired=paired)
        sessions, self._device = open_sessions(bundle, provider, self.threads, after_first_layers=not complete_graphs)
        self._placement, self._certainty = Placement(bundle), Certainty(bundle)
        on_cores = self._device == "cpu" and not complete_graphs
        self._computation = Computation(bundle, sessions, self._device, self._placement, on_cores=on_cores)
        self._workers = Workers(self.threads, None if on_cores else min(self.threads, _BLOCKS_ON_DEVICE))

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
        for n_cells in (size * self._workers.n_blocks for size in self._computation.block_sizes):
            cells = AlignedCells(
                rna=sparse.csr_matrix((n_cells, n_genes), dtype=np.float32),
                library=np.zeros(n_cells, dtype=np.float32),
                protein=np.zeros((n_cells, n_proteins), dtype=np.float32),
                measured=np.zeros((n_cells, n_proteins), dtype=bool),
            )
            try:
                self.run(cells, everything)
                if self._computation.on_cores:
                    # By graphs of their own.
                    self.run(cells, labels_alone)
            except QueryError as error:
                raise BundleError(f"{self.bundle.path}: cannot map an empty cell: {error} Export again.") from error
        _log.info("Warm on %s after %.1f s.", self.provider, time.perf_counter() - started)

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
        not_finite = NotFinite()
        weights = batch_weights(self.bundle.manifest, options.impute_as) if options.impute else None
        compute_block = self._computation.of_query(cells, options, weights, self._certainty.bounds)

        def compute(block: Block) -> Computed:
            if abandoned is not None and abandoned.is_set():
                raise AbandonedError
            return compute_block(block)

        def finish(computed: Computed) -> None:
            start = computed.rows.start
            if not not_finite.note(computed.results(), start):
                return
            scores = self._placement.place(computed, cells, weights)
            imputed = scores.imputed
            counts = {} if imputed is None else {"protein": imputed.denoised, "expected": imputed.expected}
            if not_finite.note(counts, start):
                not_finite.note(take(computed.rows, scores), start)

        blocks = list(blocks_of(len(cells), self._workers.n_blocks, self._computation.block_sizes))
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
