"""Labels from regressions of RNA and the proteins that were measured: one linear model for every panel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from totalanvi.training.readout.projection import Doubles, Floats, logistic_columns

__all__ = ["fit_panel_labels"]

_STRENGTH = 3.0
_MOST_STEPS = 2000


def fit_panel_labels(
    protein: Floats,
    measured: npt.NDArray[np.bool_],
    predicted: Floats,
    logits: Floats,
    label: npt.NDArray[np.int64],
    rng: np.random.Generator,
) -> tuple[Doubles, Doubles]:
    """Fit a logistic regression that puts a protein's prediction from RNA where the protein was not measured.

    It sees each cell with its panel, without proteins, and with a part of the panel: a prediction says less than a
    measurement, and only cells of all kinds teach how much less.

    Parameters
    ----------
    protein, measured
        Standardised counts, and which of them were measured, (cells, proteins).
    predicted, logits
        What cross-fitted regressions make of the cells' RNA, (cells, proteins) and (cells, labels).
    label
        Codes, (cells,), negative where unknown.
    rng
        Draws the parts of panels.

    Returns
    -------
    weights, intercept
        (proteins + labels, labels) and (labels,).
    """
    known = label >= 0
    copies = []
    for share in (1.0, 0.0, rng.random((len(label), 1))):
        shown = measured & (rng.random(measured.shape) < share)
        copies.append(np.hstack([np.where(shown, protein, predicted), logits])[known])
    features, codes = np.vstack(copies), np.tile(label[known], len(copies))
    weights, intercept = np.zeros((features.shape[1], logits.shape[1])), np.zeros(logits.shape[1])
    if len(np.unique(codes)) > 1:
        model = LogisticRegression(C=_STRENGTH, max_iter=_MOST_STEPS).fit(features, codes)
        logistic_columns(model, weights, intercept)
    return weights, intercept
