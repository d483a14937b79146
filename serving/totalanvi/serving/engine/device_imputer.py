"""Proteins that are imputed where the decoder computes: averages, a readout's counts, and intervals.

On a CPU, counts are made of what was decoded while cells are finished. Beside a device that would be most of what cores
do for a cell; the device makes them by graphs without weights, and what is fetched is what is said of the cells.
"""

from __future__ import annotations

import numpy as np

from totalanvi.serving.bundles.manifest import AVERAGE, BOUNDS, PROTEINS, READOUT_COUNTS, READOUT_IMPUTED
from totalanvi.serving.bundles.readout_arrays import ReadoutArrays
from totalanvi.serving.engine.bounds import Bounds
from totalanvi.serving.engine.curves import Curves
from totalanvi.serving.engine.decodings import Decoding
from totalanvi.serving.engine.graphs import Graphs
from totalanvi.serving.engine.imputation import CellsToImpute
from totalanvi.serving.engine.memory import Memory, Value
from totalanvi.serving.engine.scores import Imputed

__all__ = ["DeviceImputation", "DeviceImputer"]


class DeviceImputation:
    """Imputes there, where the bundle has the graphs for it. Safe to use from several threads.

    Parameters
    ----------
    graphs
        Of the bundle.
    memory
        Of the device that computes them.
    readout
        Of the bundle, if it has one.

    Attributes
    ----------
    has_readout : bool
        Whether it has one.
    serves : bool
        Whether it has the graphs; one from before them has not.
    """

    def __init__(self, graphs: Graphs, memory: Memory, readout: ReadoutArrays | None) -> None:
        self.graphs, self.memory, self.has_readout = graphs, memory, readout is not None
        needed = (AVERAGE, READOUT_COUNTS, READOUT_IMPUTED) if self.has_readout else (AVERAGE, BOUNDS)
        self.serves = all(graph in graphs for graph in needed)
        self._shares: dict[str, Value] = {}
        self._scales: list[dict[str, Value]] = []
        if readout is not None and self.serves:
            first, lines = Curves(readout.share_knots, readout.share).lines()
            self._shares = {"first_share": memory.put(first), "shares": memory.put(lines)}
            smear = memory.put(readout.protein_smear[None])
            self._scales = [
                {"centre": memory.put(centre[None]), "spread": memory.put(spread[None]), "smear": smear}
                for centre, spread in zip(readout.batch_centre, readout.batch_spread, strict=True)
            ]
        self._zeros: dict[int, Value] = {}

    def zeros(self, n_cells: int, n_proteins: int) -> Value:
        """Return zeros, (cells, proteins), which are put there once."""
        if n_cells not in self._zeros:
            self._zeros[n_cells] = self.memory.put(np.zeros((n_cells, n_proteins), dtype=np.float32))
        return self._zeros[n_cells]

    def counts(self, standardised: Value, batch: int, n_cells: int) -> Value:
        """Turn a readout's proteins into the counts of a batch."""
        return self.graphs.stay(READOUT_COUNTS, {"standardised": standardised, **self._scales[batch]}, n_cells)[0]

    def with_readout(self, counts: Value, denoised: Value, expected: Value, measured: Value) -> dict[str, Value]:
        """Return what a readout's counts are put in the place of, and how; the inputs of `READOUT_IMPUTED`."""
        decoded = {"decoded_denoised": denoised, "decoded_expected": expected}
        return {"of_readout": counts, "measured": measured, **decoded, **self._shares}


class DeviceImputer:
    """Imputes the cells of a query there: see `totalanvi.serving.engine.imputation.ImputesProteins`.

    Parameters
    ----------
    there
        What is there.
    decodings
        What proteins are an average of.
    bounds
        The intervals that were asked for.
    """

    def __init__(self, there: DeviceImputation, decodings: list[Decoding], bounds: Bounds) -> None:
        put = there.memory.put
        self.takes_readout = there.has_readout
        self._there, self._n_proteins = there, len(decodings[0].weight)
        self._decodings = [
            (each.batch, {"noise": put(each.noise), "batch": put(each.code)}, put(each.weight[None].astype(np.float32)))
            for each in decodings
        ]
        first, lines = bounds.curves.lines()
        self._bounds = {"first_bound": put(first), "bounds": put(lines)}

    def impute(self, cells: CellsToImpute) -> Imputed:
        """Average each protein over samples and over batches, and say between what bounds its count lies."""
        there, n_cells = self._there, cells.n_cells
        posterior = {"z_mean": cells.z_mean, "z_scale": cells.z_scale}
        totals: list[Value] = []
        for batch, feed, weight in self._decodings:
            of_batch: list[Value] = [*there.graphs.stay(PROTEINS, posterior | feed, n_cells)]
            if cells.standardised is not None:
                of_batch.append(there.counts(cells.standardised, batch, n_cells))
            if len(self._decodings) > 1:
                before = totals or [there.zeros(n_cells, self._n_proteins)] * len(of_batch)
                of_batch = [self._add(*each, weight, n_cells) for each in zip(before, of_batch, strict=True)]
            totals = of_batch
        denoised, expected, foreground, *counts = totals
        get, fetch = there.memory.get, there.graphs.fetch
        if not counts:
            low, high = fetch(BOUNDS, {"expected": expected, **self._bounds}, n_cells)
            return Imputed(get(denoised), get(expected), get(foreground), (low, high))
        feed = there.with_readout(counts[0], denoised, expected, cells.measured)
        imputed, with_background, low, high = fetch(READOUT_IMPUTED, feed | self._bounds, n_cells)
        return Imputed(imputed, with_background, get(foreground), (low, high))

    def _add(self, total: Value, decoded: Value, weight: Value, n_cells: int) -> Value:
        return self._there.graphs.stay(AVERAGE, {"total": total, "decoded": decoded, "weight": weight}, n_cells)[0]
