"""What a readout's graph says, in the terms of `totalanvi.serving.engine.scores`: logits, novelty, counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from totalanvi.serving.bundles.readout_arrays import ReadoutArrays
from totalanvi.serving.engine.curves import Curves
from totalanvi.serving.engine.density import LabelDensities
from totalanvi.serving.engine.scores import Imputed

__all__ = ["N_MEASURES", "Readings", "Readout"]

N_MEASURES = 3
_WEIGHTS = np.array([1.0, 1.0, 0.3])
"""Of surprise, distance and missing evidence: what finds types left out, within a run and across batches, with proteins
and from RNA alone (`BENCHMARKS.md`)."""

_LEAST_DISTANCE = 1e-6
"""So that a cell upon a landmark has a logarithm."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Readings:
    """The graph's outputs, one row per cell: see `totalanvi.serving.bundles.graphs.READOUT`.

    Proteins, ``standardised``, are None where they were not asked for, or a device goes on with them. Instead of
    components there may be what `totalanvi.serving.bundles.graphs.DENSITY` makes of them there, ``least`` (cells, 1).
    """

    log_probabilities: Floats
    standardised: Floats | None
    components: Floats | None
    evidence: Floats
    least: Floats | None = None

    @classmethod
    def of(cls, read: Mapping[str, Floats]) -> Readings:
        """Take what there is, by name."""
        nothing = dict.fromkeys(field.name for field in fields(cls))
        return cls(**{**nothing, **read})  # type: ignore[arg-type]  # the graph has the others

    def arrays(self) -> dict[str, Floats]:
        """Return what there is, by the names of the graph's outputs and in their order."""
        return {name: array for name, array in vars(self).items() if array is not None}

    def rows(self, rows: slice) -> Readings:
        """Take a part of the cells."""
        return Readings.of({name: array[rows] for name, array in self.arrays().items()})


class Readout:
    """Understands readings.

    Parameters
    ----------
    arrays
        Of the bundle.

    Attributes
    ----------
    densities : LabelDensities
        Of the labels.
    """

    def __init__(self, arrays: ReadoutArrays) -> None:
        self._arrays = arrays
        self.densities = LabelDensities(arrays)
        self._share = Curves(arrays.share_knots, arrays.share)

    def strangeness(
        self,
        readings: Readings,
        protein: Floats,
        measured: npt.NDArray[np.bool_],
        distance: npt.NDArray[np.float64],
    ) -> npt.NDArray[np.float64]:
        """Measure what is unlike the reference: surprise, log distance, and evidence that is missing, (cells, 3).

        Counts tell an unknown type from its neighbours best, and take another run's cells for strange; z does not,
        and lets unknown types fall among others. Surprise is a square: its root does not drown the distance where all
        cells are shifted.

        Parameters
        ----------
        readings
            Of the cells.
        protein, measured
            Counts of the same cells, and which were measured, (cells, proteins).
        distance
            From the nearest landmarks in z, (cells,).
        """
        arrays = self._arrays
        if readings.least is not None:
            surprise = self.densities.surprise_of(readings.least[:, 0])
        else:
            assert readings.components is not None, "either is there"
            if measured.any():
                standardised = (np.log1p(protein) - arrays.protein_centre) / arrays.protein_spread
            else:
                standardised = protein  # is not looked at
            guess = readings.log_probabilities.argmax(axis=1)
            surprise = self.densities.surprise(readings.components, standardised, measured, guess)
        root = np.copysign(np.sqrt(1 + np.abs(surprise)) - 1, surprise)
        log_distance = np.log(np.maximum(distance, _LEAST_DISTANCE))
        return np.stack([root, log_distance, -readings.evidence[:, 0].astype(np.float64)], axis=1)

    def novelty(self, strangeness: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Add up measures, (cells, 3), each in spreads of the reference's own cells, (cells,)."""
        mean, spread = self._arrays.novelty_scale.T.astype(np.float64)
        return np.asarray(((strangeness - mean) / spread * _WEIGHTS).sum(axis=1))

    def impute(
        self, decoded: Imputed, readings: Readings, measured: npt.NDArray[np.bool_], weights: npt.NDArray[np.float64]
    ) -> Imputed:
        """Put the readout's counts in the place of the decoder's, where a protein was not measured.

        Parameters
        ----------
        decoded
            What the decoder makes of the cells.
        readings
            Of the same cells.
        measured
            Which proteins were measured, (cells, proteins): what those are, their own counts tell the decoder.
        weights
            Of each batch in each protein, (batches, proteins), summing to 1 for a protein.
        """
        arrays, standardised = self._arrays, readings.standardised
        assert standardised is not None, "whoever imputes here has asked for it"
        expected = np.zeros(decoded.expected.shape)
        for centre, spread, weight in zip(arrays.batch_centre, arrays.batch_spread, weights, strict=True):
            if weight.any():
                # Not a product with zero: what the batch did not measure need not be finite there.
                of = slice(None) if weight.all() else np.flatnonzero(weight)
                counts = spread[of] * standardised[:, of]
                counts += centre[of]
                with np.errstate(over="ignore"):  # what is infinite is refused by whoever looks at the results
                    np.exp(counts, out=counts)
                counts *= arrays.protein_smear[of]
                counts -= 1
                expected[:, of] += weight[of] * np.maximum(counts, 0, out=counts)
        share = self._share.read(np.log1p(expected))[0]
        share *= expected
        found = {"denoised": share.astype(np.float32), "expected": expected.astype(np.float32)}
        if measured.any():
            for name, counts in found.items():
                np.copyto(counts, getattr(decoded, name), where=measured)
        return Imputed(**found, foreground=decoded.foreground)
