"""Questions about what a prediction rests on: `get_attributions` and `get_ranked_features`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from totalanvi.training.base import BaseModel
from totalanvi.training.checks import require_flags
from totalanvi.training.data import Cells
from totalanvi.training.errors import ArgumentError, listed
from totalanvi.training.network.anvae import TotalANVAE
from totalanvi.training.registration.setup_note import Data
from totalanvi.training.results.attribution import attributions, feature_columns, ranked_features
from totalanvi.training.results.attribution_options import N_STEPS, AttributionOptions, Baseline
from totalanvi.training.results.prediction import label_probabilities

__all__ = ["AttributionMethods"]


class AttributionMethods(BaseModel):
    """How much each feature of a cell speaks for a label."""

    module: TotalANVAE

    def get_attributions(
        self,
        adata: Data | None = None,
        indices: Sequence[int] | None = None,
        target: str | None = None,
        n_steps: int = N_STEPS,
        baseline: Baseline | None = None,
        batch_size: int | None = None,
        *,
        silent: bool = False,
    ) -> pd.DataFrame:
        r"""How much each gene and protein of each cell speaks for a label: integrated gradients of the label's logit.

        They sum, to 1 %, to the difference between the logit of the cell and that of the baseline,
        :math:`\sum_i A_i = F(x) - F(x')`; a warning counts cells where they do not. Memory is that of the result and of
        one mini-batch.

        Parameters
        ----------
        adata, indices, batch_size
            As in `get_latent_representation`.
        target
            A label; each cell's likeliest one by default.
        n_steps
            Points on the path from the baseline to a cell; more are added where they are needed.
        baseline
            Counts of genes, (genes,), and of proteins, (proteins,), that the path begins with, or a number for either.
            By default there are none, ``(0, 0)``. What a cell's panel measured stays so.
        silent
            Show no progress.

        Returns
        -------
        pandas.DataFrame
            (cells, genes + proteins), float32, in units of the logit (nats). Its columns are two levels, modality
            (``"rna"`` or ``"protein"``) and feature. Proteins that were not measured have 0.

        Raises
        ------
        ArgumentError
            For a label that the model does not know, a baseline that is not counts of its features, or a flag that is
            none.
        TrainingError
            For cells as `get_latent_representation`.

        Examples
        --------
        >>> attributions = model.get_attributions(target="B cell")  # doctest: +SKIP
        >>> attributions["protein"]["CD19"].mean()  # doctest: +SKIP

        References
        ----------
        Sundararajan, Taly, Yan: Axiomatic Attribution for Deep Networks. ICML 2017, equation 1.
        """
        require_flags(silent=silent)
        options = AttributionOptions.of(self.registry, n_steps, baseline, batch_size)
        cells, names = self._cells_of(adata, indices)
        codes = self._targets(cells, target, options.batch_size)
        columns = feature_columns(self.registry)
        result = np.empty((len(cells), len(columns)), np.float32)
        start = 0
        for batch in attributions(self.module, cells, codes, options, silent=silent):
            result[start : start + len(batch)] = batch
            start += len(batch)
        return pd.DataFrame(result, index=names, columns=columns)

    def get_ranked_features(
        self,
        adata: Data | None = None,
        attrs: npt.NDArray[np.floating[Any]] | pd.DataFrame | None = None,
        *,
        silent: bool = False,
    ) -> pd.DataFrame:
        """Features by their mean attribution, the highest first.

        Parameters
        ----------
        adata
            Cells to attribute the likeliest label of, where ``attrs`` is not given; the reference by default.
        attrs
            What `get_attributions` gave, or some rows of it, (cells, genes + proteins).
        silent
            Show no progress.

        Returns
        -------
        pandas.DataFrame
            (genes + proteins) rows with the columns ``feature``, ``feature_idx`` (its position among genes and
            proteins), ``modality`` (``"rna"`` or ``"protein"``), ``attribution_mean`` and ``attribution_std`` (over
            cells, in nats), and ``cells`` (their number).

        Raises
        ------
        ArgumentError
            When ``attrs`` has no cell, or not a column for each feature, and for a flag that is none.
        TrainingError
            For cells as `get_latent_representation`.

        Examples
        --------
        >>> model.get_ranked_features(attrs=attributions[labels == "B cell"]).head(10)  # doctest: +SKIP
        """
        require_flags(silent=silent)
        features = feature_columns(self.registry)
        if attrs is None:
            cells, _ = self._cells_of(adata, None)
            options = AttributionOptions.of(self.registry)
            codes = self._targets(cells, None, options.batch_size)
            return ranked_features(attributions(self.module, cells, codes, options, silent=silent), features)
        given = np.asarray(attrs)
        if given.ndim != 2 or given.shape[1] != len(features) or len(given) == 0:
            raise ArgumentError(
                f"attrs: expected attributions of one cell or more, {len(features)} features each, found an array of "
                f"shape {given.shape}; give what get_attributions returned."
            )
        return ranked_features([given], features)

    def _targets(self, cells: Cells, label: str | None, batch_size: int) -> npt.NDArray[np.intp]:
        """Code of a label, or of each cell's likeliest one, (cells,)."""
        if label is None:
            codes: npt.NDArray[np.intp] = label_probabilities(self.module, cells, True, batch_size).argmax(axis=1)
            return codes
        if label not in self.registry.labels:
            raise ArgumentError(
                f"target: expected one of the model's labels ({listed(self.registry.labels)}), found {label!r}; "
                "choose one of them."
            )
        return np.full(len(cells), self.registry.labels.index(label))
