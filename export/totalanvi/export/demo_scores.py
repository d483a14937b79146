"""How well a simulated query was mapped, judged against what the simulation knows."""

from __future__ import annotations

from dataclasses import dataclass

import mudata as md
import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import roc_auc_score

from totalanvi.serving.bundles.manifest import UNKNOWN
from totalanvi.serving.outputs.annotate import CONFIDENCE, GUESS, LABEL, NOVELTY

__all__ = ["FALSE_POSITIVE_RATE", "Scores", "score_query"]

FALSE_POSITIVE_RATE = 0.05
"""Share of cells like the reference's own that may be labelled unknown: few cells are simulated, so more than usual."""


@dataclass(frozen=True)
class Scores:
    """Figures of one mapped query."""

    accuracy_with_proteins: float
    """Share of cells of known types whose likeliest label is their type, among those with measured proteins."""
    accuracy_without_proteins: float
    """The same among those mapped from RNA alone."""
    confidence: float
    """Mean confidence over cells of known types; near their accuracy when it is calibrated."""
    accuracy: float
    """Share of all cells of known types whose likeliest label is their type."""
    imputation: pd.Series
    """Pearson correlation of log1p(imputed) with log1p(hidden counts), by protein (proteins,)."""
    novelty_auroc: float
    """How well novelty tells cells of the unseen type from the others; 0.5 is chance."""
    flagged_unseen: float
    """Share of cells of the unseen type that are labelled unknown."""
    flagged_known: float
    """Share of cells of known types that are labelled unknown."""


def score_query(annotated: md.MuData, complete: md.MuData) -> Scores:
    """Compare an annotated query with the truth.

    Parameters
    ----------
    annotated
        The query as `totalanvi.serving.client.client.Client.map` returned it, mapped with ``background="include"`` and
        `FALSE_POSITIVE_RATE`.
    complete
        The same query with the proteins of all its cells.
    """
    obs = annotated["rna"].obs
    truth = obs["cell_type"].astype(str)
    unseen = (truth == str(complete.uns["simulation"]["unseen_label"])).to_numpy()
    right = (obs[GUESS].astype(str) == truth).to_numpy()[~unseen]
    measured = obs.index.isin(annotated["prot"].obs_names)
    flagged = (obs[LABEL] == UNKNOWN).to_numpy()

    hidden = obs.index[~measured & ~unseen]
    imputed = annotated["rna"].obsm["totalanvi_protein"].loc[hidden]
    counts = pd.DataFrame(
        complete["prot"][hidden].X.toarray(), index=hidden, columns=list(complete["prot"].var_names)
    ).loc[:, list(imputed.columns)]
    return Scores(
        accuracy_with_proteins=float(right[measured[~unseen]].mean()),
        accuracy_without_proteins=float(right[~measured[~unseen]].mean()),
        accuracy=float(right.mean()),
        confidence=float(obs[CONFIDENCE].to_numpy()[~unseen].mean()),
        imputation=np.log1p(imputed).corrwith(np.log1p(counts)),
        novelty_auroc=float(roc_auc_score(unseen, obs[NOVELTY].to_numpy())),
        flagged_unseen=_share(flagged[unseen]),
        flagged_known=_share(flagged[~unseen]),
    )


def _share(selected: npt.NDArray[np.bool_]) -> float:
    return float(selected.mean())
