"""Questions about labels: `predict`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from totalanvi.training.base import BaseModel
from totalanvi.training.checks import require_flags
from totalanvi.training.errors import ArgumentError
from totalanvi.training.network.anvae import TotalANVAE
from totalanvi.training.readout.answers import readout_probabilities
from totalanvi.training.readout.readout import Readout
from totalanvi.training.registration.setup_note import Data
from totalanvi.training.results.arguments import cells_in_batch
from totalanvi.training.results.attribution import attributions, feature_columns, ranked_features
from totalanvi.training.results.attribution_options import AttributionOptions
from totalanvi.training.results.prediction import label_probabilities

__all__ = ["PredictionMethods"]

Prediction: TypeAlias = npt.NDArray[np.str_] | pd.DataFrame


class PredictionMethods(BaseModel):
    """Which cell type a cell is."""

    module: TotalANVAE
    readout: Readout | None

    def predict(
        self,
        adata: Data | None = None,
        indices: Sequence[int] | None = None,
        soft: bool = False,
        batch_size: int | None = None,
        use_posterior_mean: bool = True,
        ig_interpretability: bool = False,
        ig_args: Mapping[str, Any] | None = None,
        *,
        use_readout: bool = False,
        silent: bool = False,
    ) -> Prediction | tuple[Prediction, pd.DataFrame]:
        """Predict the cell type of cells.

        Parameters
        ----------
        adata, indices, batch_size
            As in `get_latent_representation`.
        soft
            Return the probability of each type instead of the likeliest one.
        use_posterior_mean
            Classify the posterior mean of z, or else one draw.
        ig_interpretability
            Say as well which features the predictions rest on, by integrated gradients (`get_attributions`).
        ig_args
            How to integrate: ``n_steps``, ``baselines`` (the ``baseline`` of `get_attributions`) and
            ``internal_batch_size``, points that go through the network at once. ``method`` is taken for the sake of
            scripts and has no meaning here: every integral is refined until it is complete.
        use_readout
            Ask what `TOTALANVI.fit_readout` has fitted, instead of q(c | z).
        silent
            Show no progress of attributions, which are slow.

        Returns
        -------
        predictions
            Labels, (cells,), or q(c | z), (cells, labels). Nothing else unless ``ig_interpretability``.
        attributions
            What `get_ranked_features` gives for the attributions of each cell to its likeliest label.

        Raises
        ------
        ArgumentError
            For ``ig_args`` that are unknown or make no sense, flags that are none, and ``use_readout`` without a
            readout or with attributions, which are those of q(c | z).
        TrainingError
            For cells as `get_latent_representation`.

        Examples
        --------
        >>> labels = model.predict(adata)  # doctest: +SKIP
        >>> labels, features = model.predict(adata, ig_interpretability=True)  # doctest: +SKIP
        >>> features.head(5)  # doctest: +SKIP

        References
        ----------
        Xu et al., Molecular Systems Biology 17 (2021), scANVI: the classifier q(c | z).
        """
        require_flags(
            soft=soft,
            use_posterior_mean=use_posterior_mean,
            ig_interpretability=ig_interpretability,
            use_readout=use_readout,
            silent=silent,
        )
        options = None
        if ig_interpretability:
            options = AttributionOptions.of_captum(self.registry, {} if ig_args is None else ig_args, batch_size)
        cells, names = self._cells_of(adata, indices)
        if use_readout:
            probabilities = readout_probabilities(self._fitted_readout(options), cells, cells_in_batch(batch_size))
        else:
            probabilities = label_probabilities(self.module, cells, use_posterior_mean, cells_in_batch(batch_size))
        codes = probabilities.argmax(axis=1)
        prediction: Prediction = np.asarray(self.registry.labels)[codes]
        if soft:
            prediction = pd.DataFrame(probabilities, index=names, columns=list(self.registry.labels))
        if options is None:
            return prediction
        batches = attributions(self.module, cells, codes, options, silent=silent)
        return prediction, ranked_features(batches, feature_columns(self.registry))

    def _fitted_readout(self, options: AttributionOptions | None) -> Readout:
        if options is not None:
            raise ArgumentError(
                "use_readout: expected predictions alone, found that attributions are asked for, which are those of "
                "q(c | z); ask for one of the two."
            )
        if self.readout is None:
            raise ArgumentError("use_readout: expected a model with a readout, found none; call fit_readout() first.")
        return self.readout
