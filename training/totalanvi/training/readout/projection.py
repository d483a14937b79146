"""What is linear in log-normalised counts: principal components, and regressions of proteins and labels.

A network of a few dozen hidden units on top of these learns in seconds what it would not find among thousands of genes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge

__all__ = ["Projection", "Targets", "cross_fitted_regressions", "logistic_columns"]

_MOST_COMPONENTS = 50
_LABEL_VARIANCE = 600.0
"""Prior variance of a logit, summed over genes: the penalty that cross-validation chose on real cells, on a scale that
does not depend on how many genes there are."""

_LEAST_VARIANCE = 1e-6
"""Of a component or a gene: nothing that divides is zero."""

_N_FOLDS = 4
_MOST_STEPS = 500

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Targets:
    """What RNA is to predict.

    Parameters
    ----------
    protein
        Standardised, (cells, proteins).
    measured
        Which of it is known, (cells, proteins).
    label
        Codes, (cells,), negative where unknown.
    n_labels
        Number of labels.
    """

    protein: Floats
    measured: npt.NDArray[np.bool_]
    label: npt.NDArray[np.int64]
    n_labels: int

    def __getitem__(self, rows: npt.NDArray[np.bool_]) -> Targets:
        return Targets(self.protein[rows], self.measured[rows], self.label[rows], self.n_labels)


@dataclass(frozen=True, eq=False)
class Projection:
    """A linear map of log-normalised counts.

    Parameters
    ----------
    centre
        Mean of each gene, (genes,).
    weights
        (genes, columns): principal components, then a column for each protein, then one for each label.
    offset
        What the average cell has, (columns,).
    n_components
        How many of the columns are principal components.
    component_variance
        Of each component among the cells, (components,).
    gene_noise
        Variance of a gene that is in no component, mean of all genes.
    """

    centre: Floats
    weights: Floats
    offset: Floats
    n_components: int
    component_variance: Floats
    gene_noise: float

    @classmethod
    def fit(cls, normalised: sp.csr_matrix, targets: Targets, seed: int = 0) -> Projection:
        """Fit components and regressions.

        Parameters
        ----------
        normalised
            Log-normalised counts, (cells, genes).
        targets
            Of the same cells.
        seed
            Of the start of the decomposition.

        Examples
        --------
        >>> Projection.fit(normalised, targets).components(normalised).shape  # doctest: +SKIP
        (5484, 50)
        """
        n_components = max(1, min(_MOST_COMPONENTS, *(size - 1 for size in normalised.shape)))
        pca = PCA(n_components, svd_solver="arpack", random_state=seed).fit(normalised)
        # One scale for all, so that the first components stay the largest.
        scale = float(np.sqrt(pca.explained_variance_.mean())) or 1.0
        weights, intercept = _fit_regressions(normalised, targets)
        return cls(
            centre=pca.mean_.astype(np.float32),
            weights=np.hstack([pca.components_.T / scale, weights]).astype(np.float32),
            offset=np.concatenate([np.zeros(n_components), intercept + pca.mean_ @ weights]).astype(np.float32),
            n_components=n_components,
            component_variance=np.maximum(pca.explained_variance_ / scale**2, _LEAST_VARIANCE).astype(np.float32),
            gene_noise=max(float(pca.noise_variance_), _LEAST_VARIANCE),
        )

    def components(self, normalised: sp.csr_matrix) -> Floats:
        """Return cells' principal components alone, (cells, components)."""
        weights, offset = self.weights[:, : self.n_components], self.offset[: self.n_components]
        return np.asarray(normalised @ weights + (offset - self.centre @ weights), dtype=np.float32)


def cross_fitted_regressions(views: Sequence[sp.csr_matrix], targets: Targets, seed: int = 0) -> list[Floats]:
    """Predict each cell by regressions that have not seen it, as a query's cells will be.

    Parameters
    ----------
    views
        Log-normalised counts of the same cells, each (cells, genes). Regressions are fitted to the first alone.
    targets
        Of the cells.
    seed
        Of the folds.

    Returns
    -------
    list of numpy.ndarray
        For each view, a column for each protein, then one for each label, (cells, proteins + labels).
    """
    n_cells = len(targets.label)
    fold = np.random.default_rng(seed).permutation(n_cells) % _N_FOLDS
    predicted = [np.empty((n_cells, targets.protein.shape[1] + targets.n_labels), np.float32) for _ in views]
    for number in range(_N_FOLDS):
        out = fold == number
        weights, intercept = _fit_regressions(views[0][~out], targets[~out])
        for prediction, view in zip(predicted, views, strict=True):
            prediction[out] = view[out] @ weights + intercept
    return predicted


def _fit_regressions(normalised: sp.csr_matrix, targets: Targets) -> tuple[Doubles, Doubles]:
    """Ridge regression of each protein, then logistic regression of labels: weights (genes, columns), intercepts."""
    variance = _total_variance(normalised)
    proteins, at_protein = _ridge(normalised, targets, variance)
    labels, at_label = _logistic(normalised, targets, variance)
    return np.hstack([proteins, labels]), np.concatenate([at_protein, at_label])


def _ridge(normalised: sp.csr_matrix, targets: Targets, variance: float) -> tuple[Doubles, Doubles]:
    weights, intercept = np.zeros((normalised.shape[1], targets.protein.shape[1])), np.zeros(targets.protein.shape[1])
    # Proteins that the same cells measured are fitted at once.
    panels, panel_of = np.unique(targets.measured, axis=1, return_inverse=True)
    for panel in range(panels.shape[1]):
        cells, proteins = panels[:, panel], np.flatnonzero(panel_of.ravel() == panel)
        if cells.any():
            # Half of a protein's variance is noise, and the other half lies in all genes together: a guess that fits.
            ridge = Ridge(alpha=variance, solver="sparse_cg").fit(
                normalised[cells], targets.protein[np.ix_(cells, proteins)]
            )
            weights[:, proteins], intercept[proteins] = np.atleast_2d(ridge.coef_).T, ridge.intercept_
    return weights, intercept


def _logistic(normalised: sp.csr_matrix, targets: Targets, variance: float) -> tuple[Doubles, Doubles]:
    weights, intercept = np.zeros((normalised.shape[1], targets.n_labels)), np.zeros(targets.n_labels)
    known = targets.label >= 0
    if len(np.unique(targets.label[known])) < 2:
        return weights, intercept
    model = LogisticRegression(C=_LABEL_VARIANCE / variance, max_iter=_MOST_STEPS)
    model.fit(normalised[known], targets.label[known])
    logistic_columns(model, weights, intercept)
    return weights, intercept


def logistic_columns(model: LogisticRegression, weights: Doubles, intercept: Doubles) -> None:
    """Write what a logistic regression has learned into the columns of its labels.

    Parameters
    ----------
    model
        Fitted to label codes.
    weights, intercept
        (features, labels) and (labels,), to be filled. A label that no cell had becomes as unlikely as the rarest.
    """
    known = model.classes_
    # Of two labels, it knows the odds of the second.
    signs = np.array([-0.5, 0.5]) if len(known) == 2 else np.ones(len(known))
    weights[:, known] = (signs[:, None] * model.coef_).T
    intercept[known] = signs * model.intercept_
    intercept[np.setdiff1d(np.arange(len(intercept)), known)] = intercept[known].min()


def _total_variance(normalised: sp.csr_matrix) -> float:
    """Variance of all genes together."""
    mean = np.asarray(normalised.mean(axis=0)).ravel()
    squares = np.asarray(normalised.multiply(normalised).mean(axis=0)).ravel()
    return max(float((squares - mean**2).sum()), 1.0)
