"""Logistic regression for labels and ridge regression for proteins, on 50 principal components or on all genes.

The penalties are chosen inside the reference by cross-validation: of the log-loss for labels, of the squared error of
log1p counts for proteins.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from components import View
from exchange import Exchange
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import StratifiedKFold

STRENGTHS = {"pcs": (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0), "genes": (0.01, 0.1, 1.0)}
PENALTIES = (30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5)


def fitted(
    features: sp.csr_matrix, labels: npt.NDArray[np.str_], strengths: tuple[float, ...], seed: int
) -> LogisticRegression:
    """Fit with the strength of the lowest log-loss over five folds; a label that a fold lacks costs each the same.

    scikit-learn's own LogisticRegressionCV refuses labels that are too rare to be in every fold.
    """
    losses = np.zeros(len(strengths))
    for train, test in StratifiedKFold(5, shuffle=True, random_state=seed).split(features, labels):
        model = LogisticRegression(max_iter=1000, warm_start=True)
        for place, strength in enumerate(strengths):
            model.set_params(C=strength).fit(features[train], labels[train])
            given = np.where(labels[test][:, None] == model.classes_, model.predict_proba(features[test]), 0)
            losses[place] -= np.log(np.clip(given.sum(axis=1), 1e-15, 1)).sum()
    return LogisticRegression(C=strengths[losses.argmin()], max_iter=1000).fit(features, labels)


def main() -> None:
    """Fit on the reference, answer every query mode."""
    exchange = Exchange.from_arguments(__doc__ or "")
    reference, queries = exchange.reference(), exchange.queries()
    labels, protein = exchange.labels(reference), exchange.proteins(reference)
    measured = np.isfinite(protein).all(axis=1)
    with exchange.timed("train"):
        view = View(exchange, reference, components=exchange.variant == "pcs")
        classifiers = {}
        for mode in queries:
            known = (labels != "") & (measured | (mode == "rna"))
            # Sparse, since nine of ten genes are zero in a cell: the same regression in less time.
            features = sp.csr_matrix(view.features(reference, mode)[known])
            classifiers[mode] = fitted(features, labels[known], STRENGTHS[exchange.variant], exchange.seed)
        ridge = RidgeCV(PENALTIES).fit(view.features(reference, "rna")[measured], np.log1p(protein[measured]))
    for mode, query in queries.items():
        with exchange.timed(f"map_{mode}"):
            features = view.features(query, mode)
            probabilities = classifiers[mode].predict_proba(features)
            imputed = np.expm1(ridge.predict(features)) if mode == "rna" else None
        exchange.answer_labels(mode, classifiers[mode].classes_, probabilities)
        if imputed is not None:
            exchange.answer_proteins(imputed)
    exchange.write("scikit-learn")


if __name__ == "__main__":
    main()
