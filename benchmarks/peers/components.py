"""The linear and neighbour peers' views of a cell: log-normalised genes or their principal components, and proteins."""

from __future__ import annotations

import anndata as ad
import numpy as np
import numpy.typing as npt
from exchange import Exchange, log_normalised
from sklearn.decomposition import PCA

N_COMPONENTS = 50

Features = npt.NDArray[np.float64]


class View:
    """Fit on the reference, applied to any query.

    Proteins enter as standardised log1p counts, scaled so that the panel varies as much as the RNA features do in
    all: neither drowns the other in a distance or under a penalty.
    """

    def __init__(self, exchange: Exchange, reference: ad.AnnData, components: bool = True) -> None:
        self.exchange = exchange
        self.pca: PCA | None = None
        if components:
            genes = log_normalised(reference.X).toarray()
            self.pca = PCA(N_COMPONENTS, random_state=exchange.seed).fit(genes)
        spread = self.features(reference, "rna").var(axis=0).sum()
        self.centres: dict[str, Features] = {}
        self.weights: dict[str, Features] = {}
        for mode, panel in exchange.task["panels"].items():
            if panel:
                proteins = np.log1p(exchange.proteins(reference, mode))
                self.centres[mode] = np.nanmean(proteins, axis=0)
                deviation = np.maximum(np.nanstd(proteins, axis=0), 1e-6)
                self.weights[mode] = np.sqrt(spread / len(panel)) / deviation

    def features(self, cells: ad.AnnData, mode: str) -> Features:
        """RNA features (cells, components or genes); but in mode ``rna`` with the mode's proteins (NaN: unmeasured)."""
        rna = log_normalised(cells.X).toarray()
        if self.pca is not None:
            rna = self.pca.transform(rna)
        if mode == "rna":
            return rna
        proteins = np.log1p(self.exchange.proteins(cells, mode))
        return np.hstack([rna, (proteins - self.centres[mode]) * self.weights[mode]])
