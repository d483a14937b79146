"""The engine: aligned cells in, arrays out.

A cell's results depend on that cell, the bundle and the options alone. Cells are computed in blocks of a few fixed
sizes, padded with empty cells; random draws are the same for all cells; all else here works row by row.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
import numpy.typing as npt
from scipy import sparse

from totalanvi.serving.bundle import Bundle
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.certainty import Certainty
from totalanvi.serving.cores import usable_cores
from totalanvi.serving.errors import BundleError, QueryError
from totalanvi.serving.imputation import Imputer, batch_weights
from totalanvi.serving.manifest import CLASSIFIER, ENCODER, PROTEINS, READOUT, GraphSignature
from totalanvi.serving.mapped import MapOptions, MappedCells
from totalanvi.serving.modes import modes_of
from totalanvi.serving.neighbours import Landmarks
from totalanvi.serving.readout import Readings, Readout
from totalanvi.serving.scores import Imputed, Scores
from totalanvi.serving.sessions import Device, Provider, open_sessions

__all__ = ["BLOCK_SIZES", "Engine"]

BLOCK_SIZES = (8, 64, 512)
"""Cells in a block. Few sizes, so that every kernel is chosen once and for all cells alike; the small ones answer a
query of a few cells without computing hundreds."""

_MAY_BE_UNKNOWN = ("protein_low", "protein_high")

_log = logging.getLogger(__name__)


class Engine:
    """Computes a bundle's graphs and what follows from them. Safe to use from several threads at a time.

    Parameters
    ----------
    bundle
        The verified bundle.
    provider
        ``"cuda"``, ``"cpu"``, or ``"auto"`` for CUDA where it really serves and CPU elsewhere.
    threads
        Threads to compute with on the CPU; None takes the cores that affinity and cgroup quota leave.

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

    def __init__(self, bundle: Bundle, provider: Provider = "auto", threads: int | None = None) -> None:
        self.bundle = bundle
        self.threads = threads or usable_cores()
        self._sessions, self._device = open_sessions(bundle, provider, self.threads)
        self._landmarks = Landmarks(bundle.reference.latent, bundle.reference.coordinates)
        self._certainty = Certainty(bundle)
        self._readout = None if bundle.readout is None else Readout(bundle.readout, partial(self._run, READOUT))

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
        for size in BLOCK_SIZES:
            cells = AlignedCells(
                rna=sparse.csr_matrix((size, n_genes), dtype=np.float32),
                library=np.zeros(size, dtype=np.float32),
                protein=np.zeros((size, n_proteins), dtype=np.float32),
                measured=np.zeros((size, n_proteins), dtype=bool),
            )
            try:
                self.run(cells, MapOptions())
            except QueryError as error:
                raise BundleError(f"{self.bundle.path}: cannot map an empty cell: {error} Export again.") from error
        _log.info("Warm on %s after %.1f s.", self._device, time.perf_counter() - started)

    def run(self, cells: AlignedCells, options: MapOptions) -> MappedCells:
        """Map cells.

        Parameters
        ----------
        cells
            In the model's feature order.
        options
            What to compute.

        Returns
        -------
        One row per cell, in order.

        Raises
        ------
        QueryError
            When the cells have other features than the model, or a result of one would not be finite.
        """
        scores = self.score(cells, options)
        modes = modes_of(cells.measured, self.bundle.manifest.protein_batches)
        labelling = self._certainty.label(scores.logits, scores.novelty, modes, options)
        mapped = MappedCells(
            label=labelling.label,
            guess=labelling.guess,
            certain=labelling.certain,
            confidence=labelling.confidence,
            novelty=labelling.novelty,
            probabilities=labelling.probabilities,
            label_set=labelling.label_set,
            latent=scores.latent,
            coordinates=scores.coordinates,
            **self._proteins(scores.imputed, options),
        )
        # An interval may be unknown, and follows from the expected counts, which are finite.
        _require_finite({name: a for name, a in mapped.arrays().items() if name not in _MAY_BE_UNKNOWN}, cells)
        return mapped

    def score(self, cells: AlignedCells, options: MapOptions) -> Scores:
        """Compute what is not yet calibrated; see `run`."""
        self._require_fit(cells)
        latent, logits, imputed, readings = self._compute(cells, options)
        _require_finite({"latent": latent, "logits": logits}, cells)
        neighbours = self._landmarks.find(latent)
        novelty = neighbours.distance
        if self._readout is not None and readings is not None:
            _require_finite(vars(readings), cells)
            novelty = self._readout.novelty(readings, cells)
            if imputed is not None:
                weights = batch_weights(self.bundle.manifest, options.impute_as)
                imputed = self._readout.impute(imputed, readings, cells.measured, weights)
        if imputed is not None:
            _require_finite({"protein": imputed.denoised, "expected": imputed.expected}, cells)
        return Scores(latent, neighbours.coordinates, logits, novelty, imputed)

    def _proteins(self, imputed: Imputed | None, options: MapOptions) -> dict[str, npt.NDArray[np.float32]]:
        if imputed is None:
            return {}
        intervals = self.bundle.calibration.intervals(one_batch=options.impute_as is not None)
        low, high = intervals.bounds(imputed.expected, options.coverage)
        return {
            "protein": imputed.denoised if options.background == "exclude" else imputed.expected,
            "protein_low": low,
            "protein_high": high,
            "protein_foreground": imputed.foreground,
        }

    def _require_fit(self, cells: AlignedCells) -> None:
        manifest = self.bundle.manifest
        expected = (len(manifest.genes.names), len(manifest.proteins))
        if (cells.n_genes, cells.n_proteins) != expected:
            raise QueryError(
                f"Expected cells aligned to the {expected[0]} genes and {expected[1]} proteins of {manifest.name!r}, "
                f"found {cells.n_genes} genes and {cells.n_proteins} proteins; align them to this reference."
            )

    def _compute(
        self, cells: AlignedCells, options: MapOptions
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], Imputed | None, Readings | None]:
        """Run the graphs block by block: latent (cells, n_latent), logits (cells, labels), proteins and readings.

        A readout's logits take the place of the classifier's, which then has nothing to say.
        """
        manifest = self.bundle.manifest
        latent = np.empty((len(cells), manifest.n_latent), dtype=np.float32)
        logits = np.empty((len(cells), len(manifest.labels)), dtype=np.float32)
        imputer = Imputer(manifest, options, partial(self._run, PROTEINS)) if options.impute else None
        imputed = None if imputer is None else Imputed.empty(len(cells), len(manifest.proteins))
        readings = None if self._readout is None else self._readout.room(len(cells))
        feeds = _Feeds(cells, n_batches=len(manifest.batches))
        for rows, feed in feeds.blocks():
            n_rows = rows.stop - rows.start
            z_mean, z_scale, block_latent = self._run(ENCODER, {name: feed[name] for name in ENCODER.inputs})
            latent[rows] = block_latent[:n_rows]
            if self._readout is not None and readings is not None:
                self._readout.read(feed, rows, readings)
            else:
                logits[rows] = self._run(CLASSIFIER, {"latent": block_latent})[0][:n_rows]
            if imputer is not None and imputed is not None:
                imputed.put(rows, imputer.impute(z_mean, z_scale))
        return latent, logits if readings is None else readings.log_probabilities, imputed, readings

    def _run(self, graph: GraphSignature, feed: dict[str, npt.NDArray[np.float32]]) -> list[npt.NDArray[np.float32]]:
        outputs: list[npt.NDArray[np.float32]] = self._sessions[graph.file].run(list(graph.outputs), feed)
        return outputs


class _Feeds:
    """The inputs of encoder and readout for block after block, in the same memory."""

    def __init__(self, cells: AlignedCells, n_batches: int) -> None:
        size = next((size for size in BLOCK_SIZES if size >= len(cells)), BLOCK_SIZES[-1])
        self._cells = cells
        self._rna = np.zeros((size, cells.n_genes), dtype=np.float32)
        self._library = np.zeros((size, 1), dtype=np.float32)
        self._protein = np.zeros((size, cells.n_proteins), dtype=np.float32)
        self._measured = np.zeros((size, cells.n_proteins), dtype=np.float32)
        # All zero is the code of a batch that the reference has not seen, which every query is.
        self._batch = np.zeros((size, n_batches), dtype=np.float32)
        self._present = np.ones((1, cells.n_genes), dtype=np.float32)
        if cells.present is not None:
            self._present[0] = cells.present

    def blocks(self) -> Iterator[tuple[slice, dict[str, npt.NDArray[np.float32]]]]:
        """Yield which cells, and the inputs; rows beyond the cells are padding. Use before the next is drawn."""
        cells = self._cells
        for start in range(0, len(cells), BLOCK_SIZES[-1]):
            rows = slice(start, min(start + BLOCK_SIZES[-1], len(cells)))
            n_rows = rows.stop - rows.start
            size = next(size for size in BLOCK_SIZES if size >= n_rows)
            cells.rna[rows].toarray(out=self._rna[:n_rows])
            for block, values in (
                (self._library, cells.library[rows, None]),
                (self._protein, cells.protein[rows]),
                (self._measured, cells.measured[rows]),
            ):
                block[:n_rows] = values
            blocks = (self._rna, self._library, self._protein, self._measured, self._batch)
            for block in blocks:
                block[n_rows:] = 0
            feed = dict(zip(ENCODER.inputs, (block[:size] for block in blocks), strict=True))
            yield rows, feed | {"present": self._present}


def _require_finite(results: Mapping[str, npt.NDArray[np.generic]], cells: AlignedCells) -> None:
    for name, array in results.items():
        broken = np.flatnonzero(~np.isfinite(array.reshape(len(cells), math.prod(array.shape[1:]))).all(axis=1))
        if broken.size:
            first = int(broken[0])
            raise QueryError(
                f"Expected finite results, found {name!r} not finite for {broken.size} of {len(cells)} cells, first in "
                f"row {first} with a total count of {cells.library[first]:g}; check its raw counts, or leave it out."
            )
