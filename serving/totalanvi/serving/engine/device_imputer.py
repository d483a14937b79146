"""Proteins that are imputed where the decoder computes: averages, a readout's counts, and intervals.

On a CPU, counts are made of what was decoded while cells are finished. Beside a device that would be most of what cores
do for a cell; the device makes them by graphs without weights, and what is fetched is what is said of the cells.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.graphs import ADD_WEIGHTED, BOUNDS, PROTEINS, READOUT_COUNTS, READOUT_IMPUTED
from totalanvi.serving.bundles.readout_arrays import ReadoutArrays
from totalanvi.serving.engine.bounds import Bounds
from totalanvi.serving.engine.curves import Curves
from totalanvi.serving.engine.decodings import Decoding, decodings
from totalanvi.serving.engine.graphs import Graphs
from totalanvi.serving.engine.imputation import CellsToImpute
from totalanvi.serving.engine.memory import Memory, Value
from totalanvi.serving.engine.scores import Imputed
from totalanvi.serving.mapped import MapOptions

__all__ = ["DeviceImputation", "DeviceImputer"]

_MOST_IMPUTERS = 64
"""That are kept: nearly all queries ask for the same thing."""


class DeviceImputation:
    """Imputes there, where the bundle has the graphs for it. Safe to use from several threads.

    Parameters
    ----------
    bundle
        The verified bundle.
    graphs
        Of it.
    memory
        Of the device that computes them.

    Attributes
    ----------
    serves : bool
        Whether the bundle has the graphs; one from before them has not.
    """

    def __init__(self, bundle: Bundle, graphs: Graphs, memory: Memory) -> None:
        self._bundle, self._graphs, self._memory = bundle, graphs, memory
        of_bundle = (BOUNDS,) if bundle.readout is None else (READOUT_COUNTS, READOUT_IMPUTED)
        self.serves = all(graph in graphs for graph in (ADD_WEIGHTED, *of_bundle))
        self._counts = _ReadoutThere(bundle.readout, memory) if bundle.readout is not None and self.serves else None
        self._known: dict[tuple[str | None, int, float], DeviceImputer] = {}

    def imputer(
        self, options: MapOptions, weights: npt.NDArray[np.float64], bounds: Callable[[MapOptions], Bounds]
    ) -> DeviceImputer:
        """Return what imputes so.

        Parameters
        ----------
        options
            How.
        weights
            What each batch counts for in each protein: see `totalanvi.serving.engine.decodings.batch_weights`.
        bounds
            Returns the intervals that options ask for.
        """
        kind = options.impute_as, options.samples, options.coverage
        found = self._known.get(kind)
        if found is None:
            to_decode = decodings(self._bundle.manifest, options.samples, weights)
            found = DeviceImputer(self._graphs, self._memory, self._counts, to_decode, bounds(options))
            if len(self._known) < _MOST_IMPUTERS:
                self._known[kind] = found
        return found


class DeviceImputer:
    """Imputes there in one way: see `totalanvi.serving.engine.imputation.ImputesProteins`.

    Parameters
    ----------
    graphs, memory
        See `DeviceImputation`.
    readout
        Of the bundle, if it has one.
    to_decode
        What proteins are an average of.
    bounds
        The intervals that were asked for.
    """

    def __init__(
        self, graphs: Graphs, memory: Memory, readout: _ReadoutThere | None, to_decode: list[Decoding], bounds: Bounds
    ) -> None:
        put = memory.put
        self._graphs, self._memory, self._readout = graphs, memory, readout
        self.takes_readout = readout is not None
        self._decodings = [
            (each.batch, {"noise": put(each.noise), "batch": put(each.code)}, put(each.weight[None].astype(np.float32)))
            for each in to_decode
        ]
        first, lines = bounds.curves.line_table()
        self._bounds = {"first_bound": put(first), "bounds": put(lines)}
        self._nothing: Value = put(np.zeros(first.shape, dtype=np.float32))

    def impute(self, cells: CellsToImpute) -> Imputed:
        """Average each protein over samples and over batches, and say between what bounds its count lies."""
        n_cells, compute, fetch, get = cells.n_cells, self._graphs.stay, self._graphs.fetch, self._memory.get
        posterior = {"z_mean": cells.z_mean, "z_scale": cells.z_scale}
        totals: list[Value] = []
        for batch, feed, weight in self._decodings:
            of_batch: list[Value] = [*compute(PROTEINS, posterior | feed, n_cells)]
            if self._readout is not None:
                of_batch += compute(READOUT_COUNTS, self._readout.of_batch(batch, cells), n_cells)
            if len(self._decodings) > 1:
                before = totals or [self._nothing] * len(of_batch)
                of_batch = [self._add(*each, weight, n_cells) for each in zip(before, of_batch, strict=True)]
            totals = of_batch
        if self._readout is None:
            denoised, expected, foreground = totals
            low, high = fetch(BOUNDS, {"expected": expected, **self._bounds}, n_cells)
            return Imputed(get(denoised), get(expected), get(foreground), (low, high))
        denoised, expected, foreground, counts = totals
        decoded = {"decoded_denoised": denoised, "decoded_expected": expected}
        feed = {"of_readout": counts, "measured": cells.measured, **decoded, **self._readout.shares, **self._bounds}
        of_readout = fetch(READOUT_IMPUTED, feed, n_cells)
        return Imputed(of_readout[0], of_readout[1], get(foreground), (of_readout[2], of_readout[3]))

    def _add(self, total: Value, decoded: Value, weight: Value, n_cells: int) -> Value:
        return self._graphs.stay(ADD_WEIGHTED, {"total": total, "decoded": decoded, "weight": weight}, n_cells)[0]


class _ReadoutThere:
    """What a readout's proteins mean in counts, where graphs compute."""

    def __init__(self, arrays: ReadoutArrays, memory: Memory) -> None:
        first, lines = Curves(arrays.share_knots, arrays.share).line_table()
        self.shares: dict[str, Value] = {"first_share": memory.put(first), "shares": memory.put(lines)}
        smear = memory.put(arrays.protein_smear[None])
        self._scales: list[dict[str, Value]] = [
            {"centre": memory.put(centre[None]), "spread": memory.put(spread[None]), "smear": smear}
            for centre, spread in zip(arrays.batch_centre, arrays.batch_spread, strict=True)
        ]

    def of_batch(self, batch: int, cells: CellsToImpute) -> dict[str, Value]:
        """Return the inputs of `READOUT_COUNTS`."""
        assert cells.standardised is not None, "who takes the readout is given it"
        return {"standardised": cells.standardised, **self._scales[batch]}
