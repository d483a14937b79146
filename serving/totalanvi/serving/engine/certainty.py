"""From scores to what they are worth, by the cell's query mode: probabilities, label sets, novelty, intervals."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.hierarchy import Hierarchy
from totalanvi.serving.bundles.modes import MODES, modes_of
from totalanvi.serving.engine.bounds import bounds
from totalanvi.serving.engine.conformal import probabilities_and_scores, score_threshold
from totalanvi.serving.engine.neighbours import NoveltyScale
from totalanvi.serving.engine.scores import Imputed, Scores
from totalanvi.serving.mapped import MapOptions, MappedCells

__all__ = ["Certainty"]


class Certainty:
    """What a bundle knows of its own mistakes.

    Parameters
    ----------
    bundle
        The verified bundle.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._calibration = bundle.calibration
        self._protein_batches = bundle.manifest.protein_batches
        self._temperature = np.array([bundle.manifest.calibration[mode].temperature for mode in MODES])
        self._hierarchy = Hierarchy(bundle.manifest.labels, bundle.manifest.parents)
        self._conformal = [bundle.calibration.conformal_scores(mode) for mode in MODES]
        self._novelty = [NoveltyScale(bundle.calibration.novelty_scores(mode)) for mode in MODES]

    def judge(self, scores: Scores, measured: npt.NDArray[np.bool_], options: MapOptions) -> MappedCells:
        """Say what the scores of cells are worth, for each cell by itself.

        Parameters
        ----------
        scores
            Of the cells.
        measured
            Which proteins were measured, (cells, proteins).
        options
            The coverage of label sets and intervals, and which cells are unknown.
        """
        modes = modes_of(measured, self._protein_batches)
        calibrated = scores.logits / self._temperature[modes][:, None]
        probabilities, label_scores = probabilities_and_scores(calibrated)
        guess = probabilities.argmax(axis=1).astype(np.int32)
        thresholds = np.array([score_threshold(each, options.coverage) for each in self._conformal])
        shares = np.zeros(len(modes), dtype=np.float32)
        for mode, scale in enumerate(self._novelty):
            shares[modes == mode] = scale.novelty(scores.novelty[modes == mode])
        unknown = shares > options.novelty_threshold
        if options.keep_unknown_labels:
            unknown[:] = False
        certain = self._hierarchy.certain(probabilities, guess, options.certainty)
        return MappedCells(
            label=np.where(unknown, np.int32(scores.logits.shape[1]), guess),
            guess=guess,
            certain=np.where(unknown, np.int32(len(self._hierarchy.names)), certain),
            confidence=np.take_along_axis(probabilities, guess[:, None], axis=1)[:, 0],
            novelty=shares,
            probabilities=probabilities,
            label_set=label_scores <= thresholds[modes][:, None],
            latent=scores.latent,
            coordinates=scores.coordinates,
            **self._proteins(scores.imputed, options),
        )

    def _proteins(self, imputed: Imputed | None, options: MapOptions) -> dict[str, npt.NDArray[np.float32]]:
        if imputed is None:
            return {}
        intervals = self._calibration.intervals(one_batch=options.impute_as is not None)
        low, high = bounds(intervals, imputed.expected, options.coverage)
        return {
            "protein": imputed.denoised if options.background == "exclude" else imputed.expected,
            "protein_low": low,
            "protein_high": high,
            "protein_foreground": imputed.foreground,
        }
