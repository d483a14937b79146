"""The arrays that certainty is read from: what held-out cells of the reference came out as, in each query mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from totalanvi.serving.bundles.array_file import ArrayFile
from totalanvi.serving.bundles.manifest import CALIBRATION_FILE, Manifest
from totalanvi.serving.bundles.modes import MODES, Mode
from totalanvi.serving.intervals import COVERAGES, Intervals

__all__ = ["CalibrationArrays"]

_INTERVAL_KINDS = 2


@dataclass(frozen=True, eq=False)
class CalibrationArrays(ArrayFile):
    """Distributions over held-out reference cells.

    Parameters
    ----------
    novelty_protein, novelty_part, novelty_rna
        Ascending novelty scores of held-out cells that were mapped in that mode, (held_out,), float32, one or more.
    conformal_protein, conformal_part, conformal_rna
        Ascending scores of their own labels (`totalanvi.serving.engine.conformal`), (labelled,), float32; may be empty.
    interval_knots, interval_low, interval_high
        See `totalanvi.serving.intervals.Intervals`; first of counts imputed as the average of the batches that measured
        the protein, then as a cell's own batch: (2, proteins, knots) and (2, proteins, knots, coverages), float32.
    """

    FILE: ClassVar[str] = CALIBRATION_FILE

    novelty_protein: npt.NDArray[np.float32]
    novelty_part: npt.NDArray[np.float32]
    novelty_rna: npt.NDArray[np.float32]
    conformal_protein: npt.NDArray[np.float32]
    conformal_part: npt.NDArray[np.float32]
    conformal_rna: npt.NDArray[np.float32]
    interval_knots: npt.NDArray[np.float32]
    interval_low: npt.NDArray[np.float32]
    interval_high: npt.NDArray[np.float32]

    def novelty_scores(self, mode: Mode) -> npt.NDArray[np.float32]:
        """Return the novelty scores of one mode, (held_out,)."""
        scores: npt.NDArray[np.float32] = getattr(self, f"novelty_{mode}")
        return scores

    def conformal_scores(self, mode: Mode) -> npt.NDArray[np.float32]:
        """Return the scores of held-out cells' own labels in one mode, (labelled,)."""
        scores: npt.NDArray[np.float32] = getattr(self, f"conformal_{mode}")
        return scores

    def intervals(self, one_batch: bool) -> Intervals:
        """Return the intervals of counts imputed as the average of batches, or as one batch."""
        kind = int(one_batch)
        return Intervals(self.interval_knots[kind], self.interval_low[kind], self.interval_high[kind])

    @classmethod
    def unknown(cls, n_proteins: int) -> CalibrationArrays:
        """Return what stands in before a bundle is calibrated."""
        one, none = np.ones(1, np.float32), np.empty(0, np.float32)
        bound = np.full((_INTERVAL_KINDS, n_proteins, 1, len(COVERAGES)), np.nan, np.float32)
        return cls(
            **{f"novelty_{mode}": one for mode in MODES},
            **{f"conformal_{mode}": none for mode in MODES},
            interval_knots=bound[..., 0],
            interval_low=bound,
            interval_high=bound,
        )

    def problem(self, manifest: Manifest) -> str | None:
        """Return what does not fit the manifest, None when all does."""
        names = tuple(f"{kind}_{mode}" for kind in ("novelty", "conformal") for mode in MODES)
        n_knots = self.interval_knots.shape[-1] if self.interval_knots.ndim else 0
        knots = (_INTERVAL_KINDS, len(manifest.proteins), n_knots)
        shapes: dict[str, tuple[int, ...]] = {name: (getattr(self, name).size,) for name in names}
        bounds = (*knots, len(COVERAGES))
        shapes |= {"interval_knots": knots, "interval_low": bounds, "interval_high": bounds}
        return self.shape_problem(shapes) or self.finite_problem(names) or self._order_problem()

    def _order_problem(self) -> str | None:
        for mode in MODES:
            scores = self.novelty_scores(mode)
            if not scores.size or np.any(np.diff(scores) < 0):
                return f"novelty_{mode}: expected ascending scores of at least one held-out cell, found others"
            if np.any(np.diff(self.conformal_scores(mode)) < 0):
                return f"conformal_{mode}: expected ascending scores, found others"
        known = np.isfinite(self.interval_knots).all(axis=2)
        if not self.interval_knots.shape[2] or np.any(np.diff(self.interval_knots[known], axis=1) < 0):
            return "interval_knots: expected ascending knots, found others"
        low, high = self.interval_low[known], self.interval_high[known]
        # NaN fails the comparisons as well.
        rising = all((np.diff(bound, axis=1) >= 0).all() for bound in (low, high))
        if not (np.isfinite(high).all() and (low <= high).all() and rising):
            return "interval_low, interval_high: expected bounds that rise wherever there are knots, found others"
        return None
