"""50 principal components and the nearest neighbours: 15 vote on the label, 30 average the proteins.

Its own measure of novelty is the mean distance of the 15.
"""

from __future__ import annotations

import numpy as np
from components import View
from exchange import Exchange
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor


def main() -> None:
    """Fit on the reference, answer every query mode."""
    exchange = Exchange.from_arguments(__doc__ or "")
    reference, queries = exchange.reference(), exchange.queries()
    labels, protein = exchange.labels(reference), exchange.proteins(reference)
    measured = np.isfinite(protein).all(axis=1)
    with exchange.timed("train"):
        view = View(exchange, reference)
        voters = {}
        for mode in queries:
            known = (labels != "") & (measured | (mode == "rna"))
            features = view.features(reference, mode)[known]
            voters[mode] = KNeighborsClassifier(15, n_jobs=exchange.threads).fit(features, labels[known])
        averages = KNeighborsRegressor(30, n_jobs=exchange.threads)
        averages.fit(view.features(reference, "rna")[measured], np.log1p(protein[measured]))
    for mode, query in queries.items():
        with exchange.timed(f"map_{mode}"):
            features = view.features(query, mode)
            probabilities = voters[mode].predict_proba(features)
            distances, _ = voters[mode].kneighbors(features)
            imputed = np.expm1(averages.predict(features)) if mode == "rna" else None
        exchange.answer_labels(mode, voters[mode].classes_, probabilities)
        exchange.answer_novelty(mode, distances.mean(axis=1))
        if imputed is not None:
            exchange.answer_proteins(imputed)
    exchange.write("scikit-learn")


if __name__ == "__main__":
    main()
