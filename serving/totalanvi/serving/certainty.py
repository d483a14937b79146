"""From scores to what they are worth: calibrated probabilities, label sets and novelty, by the cell's query mode."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from totalanvi.serving.bundle import Bundle
from totalanvi.serving.conformal import label_scores, score_threshold
from totalanvi.serving.hierarchy import Hierarchy
from totalanvi.serving.mapped import MapOptions
from totalanvi.serving.modes import MODES
from totalanvi.serving.neighbours import NoveltyScale

__all__ = ["Certainty", "Labelling"]


@dataclass(frozen=True, eq=False)
class Labelling:
    """Labels of cells; each array as in `totalanvi.serving.mapped.MappedCells`."""

    label: npt.NDArray[np.int32]
    guess: npt.NDArray[np.int32]
    certain: npt.NDArray[np.int32]
    confidence: npt.NDArray[np.float32]
    novelty: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.float32]
    label_set: npt.NDArray[np.bool_]


class Certainty:
    """What a bundle knows of its own mistakes.

    Parameters
    ----------
    bundle
        The verified bundle.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._temperature = np.array([bundle.manifest.calibration[mode].temperature for mode in MODES])
        self._hierarchy = Hierarchy(bundle.manifest.labels, bundle.manifest.parents)
        self._conformal = [bundle.calibration.conformal_scores(mode) for mode in MODES]
        self._novelty = [NoveltyScale(bundle.calibration.novelty_scores(mode)) for mode in MODES]

    def label(
        self,
        logits: npt.NDArray[np.floating],
        novelty: npt.NDArray[np.floating],
        modes: npt.NDArray[np.intp],
        options: MapOptions,
    ) -> Labelling:
        """Label cells.

        Parameters
        ----------
        logits
            Before any temperature, (cells, labels).
        novelty
            Novelty scores, (cells,).
        modes
            See `totalanvi.serving.modes.modes_of`, (cells,).
        options
            The coverage of label sets, and which cells are unknown.
        """
        calibrated = logits / self._temperature[modes][:, None]
        probabilities = _softmax(calibrated)
        guess = probabilities.argmax(axis=1).astype(np.int32)
        thresholds = np.array([score_threshold(scores, options.coverage) for scores in self._conformal])
        shares = np.zeros(len(modes), dtype=np.float32)
        for mode, scale in enumerate(self._novelty):
            shares[modes == mode] = scale.novelty(novelty[modes == mode])
        unknown = shares > options.novelty_threshold
        if options.keep_unknown_labels:
            unknown[:] = False
        certain = self._hierarchy.certain(probabilities, guess, options.certainty)
        return Labelling(
            label=np.where(unknown, np.int32(logits.shape[1]), guess),
            guess=guess,
            certain=np.where(unknown, np.int32(len(self._hierarchy.names)), certain),
            confidence=np.take_along_axis(probabilities, guess[:, None], axis=1)[:, 0],
            novelty=shares,
            probabilities=probabilities,
            label_set=label_scores(calibrated) <= thresholds[modes][:, None],
        )


def _softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Turn logits (cells, labels) into probabilities, in float64 up to the last step."""
    by_label = np.ascontiguousarray(logits.T)  # sums over labels go along whole rows of cells
    powers = np.exp(by_label - by_label.max(axis=0))
    return np.ascontiguousarray((powers / powers.sum(axis=0)).T, dtype=np.float32)
