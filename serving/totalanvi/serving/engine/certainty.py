"""From scores to what they are worth, by the cell's query mode: probabilities, label sets, novelty, intervals."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.hierarchy import Hierarchy
from totalanvi.serving.bundles.modes import MODES, modes_of
from totalanvi.serving.engine.bounds import Bounds
from totalanvi.serving.engine.conformal import LabelOdds, score_threshold
from totalanvi.serving.engine.neighbours import NoveltyScale
from totalanvi.serving.engine.scores import Imputed, Scores
from totalanvi.serving.mapped import PROTEIN_ARRAYS, MapOptions, MappedCells

__all__ = ["Certainty"]

_MOST_BOUNDS = 64
"""Coverages whose curves are kept: nearly all queries ask for the same one."""


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
        self._known_bounds: dict[tuple[bool, float], Bounds] = {}

    def judge(self, scores: Scores, measured: npt.NDArray[np.bool_], options: MapOptions, judged: MappedCells) -> None:
        """Say what the scores of cells are worth, for each cell by itself.

        Parameters
        ----------
        scores
            Of the cells.
        measured
            Which proteins were measured, (cells, proteins).
        options
            The coverage of label sets and intervals, and which cells are unknown.
        judged
            Room for the results, which are written there.
        """
        modes, n_labels = modes_of(measured, self._protein_batches), scores.logits.shape[1]
        calibrated = np.empty(scores.logits.shape[::-1])
        odds = LabelOdds(np.divide(scores.logits.T, self._temperature[modes], out=calibrated))
        probabilities, guess = judged.probabilities, judged.guess
        probabilities[:] = odds.probabilities().T
        guess[:] = odds.likeliest
        judged.confidence[:] = odds.confidence()
        thresholds = np.array([score_threshold(each, options.coverage) for each in self._conformal])
        np.less_equal(odds.scores(), thresholds[modes], out=judged.label_set.T)
        for mode, scale in enumerate(self._novelty):
            of_mode = modes == mode
            if of_mode.all():
                judged.novelty[:] = scale.novelty(scores.novelty)
            elif of_mode.any():
                judged.novelty[of_mode] = scale.novelty(scores.novelty[of_mode])
        judged.label[:] = guess
        judged.certain[:] = self._hierarchy.certain(probabilities, guess, options.certainty)
        if not options.keep_unknown_labels:
            unknown = judged.novelty > options.novelty_threshold
            judged.label[unknown] = n_labels
            judged.certain[unknown] = len(self._hierarchy.names)
        judged.latent[:] = scores.latent
        judged.coordinates[:] = scores.coordinates
        if scores.imputed is not None:
            self._judge_proteins(scores.imputed, options, judged)

    def _judge_proteins(self, imputed: Imputed, options: MapOptions, judged: MappedCells) -> None:
        low, high = imputed.bounds or self.bounds(options).read(imputed.expected)
        protein = imputed.denoised if options.background == "exclude" else imputed.expected
        arrays = protein, low, high, imputed.foreground
        for name, array in zip(PROTEIN_ARRAYS, arrays, strict=True):
            getattr(judged, name)[:] = array

    def bounds(self, options: MapOptions) -> Bounds:
        """Return the intervals that these options ask for."""
        kind = options.impute_as is not None, options.coverage
        bounds = self._known_bounds.get(kind)
        if bounds is None:
            bounds = Bounds(self._calibration.intervals(one_batch=kind[0]), options.coverage)
            if len(self._known_bounds) < _MOST_BOUNDS:
                self._known_bounds[kind] = bounds
        return bounds
