"""`TOTALANVI`: totalVI that learns from the labels of some of its cells and predicts them for others."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

from totalanvi.training.checks import require_type
from totalanvi.training.errors import ArgumentError, RegistrationError, listed
from totalanvi.training.models.attributes import LabelAttributes
from totalanvi.training.models.readout_methods import ReadoutMethods
from totalanvi.training.models.semisupervised_training import SemisupervisedTraining
from totalanvi.training.models.totalvi import TOTALVI
from totalanvi.training.network.anvae import TotalANVAE
from totalanvi.training.network.dispersion import of_labels, per_label
from totalanvi.training.network.model_options import OPTIONS
from totalanvi.training.network.vae import TotalVAE
from totalanvi.training.registration.codes import as_values
from totalanvi.training.registration.setup import LabelledSetUp
from totalanvi.training.registration.setup_note import Data, is_set_up, noted, read_setup
from totalanvi.training.registration.shared_columns import warn_of_labels_as_effects
from totalanvi.training.registration.unlabelled_words import warn_of_unlabelled_words
from totalanvi.training.results.attribution_methods import AttributionMethods
from totalanvi.training.results.prediction_methods import PredictionMethods

__all__ = ["TOTALANVI"]

_OF_LABELS = (
    "linear_classifier",
    "classifier_parameters",
    "classifier_n_layers",
    "classifier_n_hidden",
    "classifier_dropout_rate",
    "label_prior",
    "y_prior",
    "n_enumerated_labels",
)
"""Options that totalVI has no use for."""

_SHARED = ("genes", "proteins", "batches", "panels", "categorical_covariates", "continuous_covariates")
"""Names that TotalANVI has to share with the totalVI model it starts from: weights go by their codes."""

_OF_CONSTRUCTION = frozenset(("empirical_protein_background_prior", "override_missing_proteins", "seed"))
"""Options of the constructor that are none of the network."""

_OF_SAMPLES = ("background_pro_alpha", "background_pro_log_beta", "log_per_batch_efficiency")
"""What totalVI has learned of samples, not of cells: not trained again, so that labels cannot move the background."""


class TOTALANVI(
    LabelledSetUp,
    PredictionMethods,
    AttributionMethods,
    LabelAttributes,
    ReadoutMethods,
    SemisupervisedTraining,
    TOTALVI,
):
    """TotalANVI: totalVI with the label hierarchy of scANVI.

    Parameters
    ----------
    adata
        AnnData or MuData that `setup_anndata` or `setup_mudata` has registered with a ``labels_key``.
    **kwargs
        As in `TOTALVI`. Of the options of `totalanvi.training.ModelConfig`, ``linear_classifier``, those that begin
        with ``classifier_``, ``label_prior`` and ``n_enumerated_labels`` matter here alone.

    Raises
    ------
    RegistrationError
        When the data has no labelled cells, or one type only; otherwise as `TOTALVI`.
    ArgumentError
        For options that are unknown or out of range.

    Examples
    --------
    >>> from totalanvi.training import TOTALANVI, simulate
    >>> mdata = simulate(n_cells=500, seed=0)
    >>> TOTALANVI.setup_mudata(
    ...     mdata, batch_key="batch", labels_key="cell_type", modalities={"rna_layer": "rna", "protein_layer": "prot"}
    ... )
    >>> model = TOTALANVI(mdata)
    >>> model.train(max_epochs=5)
    >>> model.predict().shape
    (500,)

    References
    ----------
    Xu et al.: Probabilistic harmonization and annotation of single-cell transcriptomics data with deep generative
    models. Molecular Systems Biology 17 (2021). Gayoso, Steier et al., Nature Methods 18 (2021).
    """

    _module_class: ClassVar[type[TotalVAE]] = TotalANVAE
    module: TotalANVAE

    def _judge_labels(self) -> None:
        if not self.registry.labels:
            raise RegistrationError("Expected a labels_key, found none; name the column of cell types when setting up.")
        warn_of_unlabelled_words(self.registry)
        warn_of_labels_as_effects(self.registry)

    @classmethod
    def from_totalvi_model(
        cls,
        totalvi_model: TOTALVI,
        unlabeled_category: str | Sequence[str],
        labels_key: str | None = None,
        adata: Data | None = None,
        **totalanvi_kwargs: Any,
    ) -> Self:
        """Start from a trained totalVI model: with its weights, and with its protein background as it is, not trained.

        Parameters
        ----------
        totalvi_model
            A trained model.
        unlabeled_category
            Value or values of ``labels_key`` that mean "not labelled".
        labels_key
            Column of cell types. Dispersions that differ by label are taken over by the label's name; a label that is
            new begins with their average, with a warning.
        adata
            Data with the model's features and columns; the model's own by default.
        **totalanvi_kwargs
            Options that totalVI does not have, ``linear_classifier`` for one. The others are the trained model's: given
            here, they are left aside with a warning.

        Raises
        ------
        ArgumentError
            When the model is not trained, has no data, or no ``labels_key`` is given; for unknown options.
        RegistrationError
            When the data has no such column or other features; what was noted on it before is there again.

        Examples
        --------
        >>> model = TOTALANVI.from_totalvi_model(totalvi_model, "unknown", "cell_type")  # doctest: +SKIP
        """
        require_type("totalvi_model", totalvi_model, TOTALVI, "give a trained TOTALVI model")
        if unknown := sorted(totalanvi_kwargs.keys() - OPTIONS - _OF_CONSTRUCTION):
            raise ArgumentError(
                f"Expected options out of {', '.join(sorted(OPTIONS | _OF_CONSTRUCTION))}, found {', '.join(unknown)}; "
                "leave these out."
            )
        if not totalvi_model.is_trained:
            raise ArgumentError("Expected a trained totalVI model, found one that is not; call its train() first.")
        if labels_key is None:
            raise ArgumentError("Expected a labels_key, found none; name the column of cell types.")
        data = totalvi_model.adata if adata is None else adata
        if data is None:
            raise ArgumentError(
                "Expected a totalVI model with cells, found one that was loaded without any; give `adata`."
            )
        # Other data may differ in where its parts are only if it says so itself.
        setup = read_setup(data) if is_set_up(data) else totalvi_model._setup
        setup = replace(setup, labels_key=labels_key, unlabeled=as_values(unlabeled_category))
        theirs = totalvi_model.module.config.to_dict()
        options = {name: value for name, value in totalanvi_kwargs.items() if name in _OF_LABELS}
        if ignored := sorted(totalanvi_kwargs.keys() - options.keys()):
            warnings.warn(
                f"{', '.join(ignored)}: left aside, since the trained totalVI model has chosen already.",
                UserWarning,
                stacklevel=2,
            )
        with noted(data, setup):
            model = cls(
                data,
                **{name: value for name, value in theirs.items() if name not in _OF_LABELS},
                **options,
                empirical_protein_background_prior=False,
                override_missing_proteins=totalvi_model.registry.zeros_count,
                seed=totalvi_model.seed,
            )
            for name in _SHARED:
                known, ours = getattr(totalvi_model.registry, name), getattr(model.registry, name)
                if known != ours:
                    what = name.replace("_", " ")
                    raise ArgumentError(
                        f"Expected data with the totalVI model's {len(known)} {what} in their order, found {len(ours)} "
                        f"{what} that are not these; subset, reorder or rename them."
                    )
        model._take_weights(totalvi_model)
        for name in _OF_SAMPLES:
            getattr(model.module, name).requires_grad = False
        model.was_pretrained = True
        return model

    def _take_weights(self, totalvi_model: TOTALVI) -> None:
        """Take the weights of a totalVI model of the same data, whose labels may be others: dispersions go by name."""
        weights = totalvi_model.module.state_dict()
        config, known, labels = self.module.config, totalvi_model.registry.labels, self.registry.labels
        by_label = {"px_r": config.gene_dispersion, "py_r": config.protein_dispersion}
        by_label = {name: kind for name, kind in by_label.items() if per_label(kind)}
        if by_label and (unknown := [label for label in labels if label not in known]):
            warnings.warn(
                f"The totalVI model has no dispersions of the labels {listed(unknown)}: they begin as the average over "
                f"its labels ({listed(known)}). Rename the labels if they are the same types.",
                UserWarning,
                stacklevel=3,
            )
        weights |= {name: of_labels(weights[name], known, labels) for name in by_label}
        self.module.load_state_dict(weights, strict=False)
