"""Imputed proteins: the posterior is decoded as one or several batches of the reference, and averaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from totalanvi.serving.bundles.graphs import PROTEINS
from totalanvi.serving.engine.decodings import Decoding
from totalanvi.serving.engine.memory import Value, on_host
from totalanvi.serving.engine.scores import Imputed

__all__ = ["CellsToImpute", "Imputer", "ImputesProteins"]

_FEWEST_CELLS = 8

_CELLS_IN_CACHE = 1024
"""Cells that are added up at a time."""

Floats = npt.NDArray[np.float32]
Decode = Callable[[dict[str, Value], int], list[Floats]]


@dataclass(frozen=True, eq=False)
class CellsToImpute:
    """What there is of the cells of a block where graphs compute.

    Parameters
    ----------
    z_mean, z_scale
        Posterior before the latent transformation, (cells, n_latent).
    measured
        1 for proteins that were measured, else 0, (cells, proteins).
    standardised
        A readout's proteins, (cells, proteins), where it left them there.
    n_cells
        How many, one or more.
    """

    z_mean: Value
    z_scale: Value
    measured: Value
    standardised: Value | None
    n_cells: int


class ImputesProteins(Protocol):
    """Imputes the proteins of blocks of cells."""

    @property
    def takes_readout(self) -> bool:
        """Whether a readout's proteins are to be left where graphs compute, as their counts are made there, too."""

    def impute(self, cells: CellsToImpute) -> Imputed:
        """Impute the proteins of a block."""


class Imputer:
    """Decodes blocks of cells, and averages here. What a readout says of them comes later.

    Parameters
    ----------
    decodings
        What proteins are an average of.
    decode
        Computes the proteins graph: its inputs by name, and for how many cells, to its outputs in order.
    most_rows
        Cells times samples that are decoded at a time, about; None for a whole block.
    """

    takes_readout = False

    def __init__(self, decodings: list[Decoding], decode: Decode, most_rows: int | None = None) -> None:
        self._decodings = decodings
        self._decode = decode
        n_samples = max(len(each.noise) for each in decodings)
        # A power of two, which whole blocks are multiples of.
        self._most_cells = (
            None if most_rows is None else max(_FEWEST_CELLS, 1 << (most_rows // n_samples).bit_length() - 1)
        )

    def impute(self, cells: CellsToImpute) -> Imputed:
        """Average each protein over samples and over batches."""
        n_cells = cells.n_cells
        if self._most_cells is None or n_cells <= self._most_cells:
            averages = self._average(cells.z_mean, cells.z_scale, n_cells)
        else:
            mean, scale = on_host(cells.z_mean), on_host(cells.z_scale)
            steps = [slice(start, start + self._most_cells) for start in range(0, n_cells, self._most_cells)]
            parts = zip(*(self._average(mean[s], scale[s], len(mean[s])) for s in steps), strict=True)
            averages = [np.concatenate(of_output) for of_output in parts]
        denoised, expected, foreground = averages
        return Imputed(denoised, expected, foreground)

    def _average(self, z_mean: Value, z_scale: Value, n_cells: int) -> list[Floats]:
        """Return the averages of each output, (cells, proteins)."""
        n_proteins = len(self._decodings[0].weight)
        if len(self._decodings) == 1:
            return self._decoded(z_mean, z_scale, self._decodings[0], n_cells)
        total = np.zeros((len(PROTEINS.outputs), n_cells, n_proteins))
        for decoding in self._decodings:
            # Not a product with zero: what was never learned need not be finite.
            learned = np.flatnonzero(decoding.weight)
            share = decoding.weight[learned]
            outputs = self._decoded(z_mean, z_scale, decoding, n_cells)
            for of_output, output in zip(total, outputs, strict=True):
                for start_row in range(0, n_cells, _CELLS_IN_CACHE):
                    rows = slice(start_row, start_row + _CELLS_IN_CACHE)
                    if len(learned) == n_proteins:
                        of_output[rows] += output[rows] * share
                    else:
                        of_output[rows, learned] += output[rows, learned] * share
        return list(total.astype(np.float32))

    def _decoded(self, z_mean: Value, z_scale: Value, decoding: Decoding, n_cells: int) -> list[Floats]:
        feed = {"z_mean": z_mean, "z_scale": z_scale, "noise": decoding.noise, "batch": decoding.code}
        return self._decode(feed, n_cells)
