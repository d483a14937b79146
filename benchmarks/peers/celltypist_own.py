"""CellTypist with a model of its own, trained on the reference; RNA only, no imputation.

Its own measure of novelty is one minus its confidence, the highest of its one-against-rest probabilities.
"""

from __future__ import annotations

import anndata as ad
import celltypist
from exchange import Exchange, log_normalised


def main() -> None:
    """Train on the labelled cells with CellTypist's defaults, then give its probabilities."""
    exchange = Exchange.from_arguments(__doc__ or "")
    reference = exchange.reference()
    labels = exchange.labels(reference)
    known = labels != ""
    cells = ad.AnnData(log_normalised(reference.X)[known].astype("float32"), var=reference.var[[]])
    with exchange.timed("train"):
        model = celltypist.train(cells, labels=labels[known], check_expression=False, n_jobs=exchange.threads)
    query = exchange.queries()["rna"]
    normalised = ad.AnnData(log_normalised(query.X).astype("float32"), obs=query.obs[[]], var=query.var[[]])
    with exchange.timed("map_rna"):
        prediction = celltypist.annotate(normalised, model=model)
    # Its probabilities are one-against-rest sigmoids; scores of a choice among labels have to sum to one.
    scores = prediction.probability_matrix.to_numpy()
    shares = scores / scores.sum(axis=1, keepdims=True)
    exchange.answer_labels("rna", prediction.probability_matrix.columns, shares)
    exchange.answer_novelty("rna", 1 - scores.max(axis=1))
    exchange.write("celltypist", "scikit-learn")


if __name__ == "__main__":
    main()
