"""Labels from regressions of RNA and the proteins that were measured: one linear model for every panel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from totalanvi.training.readout.projection import Doubles, Floats, logistic_columns

__all__ = ["fit_panel_labels"]

_STRENGTHS = (0.1, 0.3, 1.0, 3.0)
"""Inverse penalties to choose from, weak ones last: what is right for thousands of cells makes hundreds too sure."""

_N_FOLDS = 3
_MOST_CELLS_TO_CHOOSE = 3_000
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
    measurement, and only cells of all kinds teach how much less. Its penalty is the one that loses least on cells that
    were left out, and all proteins together are as large as all logits: hundreds of proteins would drown the RNA.

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
    n_proteins, n_labels = protein.shape[1], logits.shape[1]
    weights, intercept = np.zeros((n_proteins + n_labels, n_labels)), np.zeros(n_labels)
    known = label >= 0
    if len(np.unique(label[known])) < 2:
        return weights, intercept
    scale = np.sqrt(n_labels / max(n_proteins, 1))
    panels = []
    for share in (1.0, 0.0, rng.random((len(label), 1))):
        shown = measured & (rng.random(measured.shape) < share)
        panels.append(np.hstack([scale * np.where(shown, protein, predicted), logits])[known])
    features, codes = np.stack(panels), label[known]
    model = LogisticRegression(C=_strength(features, codes, rng), max_iter=_MOST_STEPS)
    logistic_columns(model.fit(np.vstack(panels), np.tile(codes, len(panels))), weights, intercept)
    weights[:n_proteins] *= scale
    return weights, intercept


def _strength(features: npt.NDArray[np.floating], label: npt.NDArray[np.int64], rng: np.random.Generator) -> float:
    """Choose the strength with the least log-loss on cells left out; features are (panels, cells, features)."""
    rows = rng.permutation(len(label))[:_MOST_CELLS_TO_CHOOSE]
    losses, n_labels = np.zeros(len(_STRENGTHS)), int(label.max()) + 1
    for fold in range(_N_FOLDS):
        out = np.arange(len(rows)) % _N_FOLDS == fold
        train, test = rows[~out], rows[out]
        if len(np.unique(label[train])) < 2:
            continue
        model = LogisticRegression(max_iter=_MOST_STEPS, warm_start=True)
        weights, intercept = np.zeros((features.shape[2], n_labels)), np.zeros(n_labels)
        for place, strength in enumerate(_STRENGTHS):
            model.set_params(C=strength).fit(
                features[:, train].reshape(-1, features.shape[2]), np.tile(label[train], len(features))
            )
            logistic_columns(model, weights, intercept)
            log_probabilities = log_softmax(features[:, test] @ weights + intercept, axis=2)
            losses[place] -= log_probabilities[:, np.arange(len(test)), label[test]].sum()
    return _STRENGTHS[int(losses.argmin())]
