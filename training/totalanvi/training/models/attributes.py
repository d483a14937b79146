"""Attributes of a model under the names that scripts written for scvi-tools use."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from totalanvi.training.base import BaseModel
from totalanvi.training.data import UNLABELLED
from totalanvi.training.devices import chosen_device
from totalanvi.training.models.registration_attributes import RegistrationAttributes
from totalanvi.training.registration.data_registry import unlabeled_category

__all__ = ["LabelAttributes", "ModelAttributes"]

_MAIN_OPTIONS = ("n_latent", "gene_dispersion", "protein_dispersion", "gene_likelihood", "latent_distribution")


class ModelAttributes(RegistrationAttributes):
    """What users ask of every model."""

    @property
    def is_trained_(self) -> bool:
        """Whether the model is trained."""
        return self.is_trained

    @property
    def history_(self) -> dict[str, pd.DataFrame]:
        """One frame a metric, indexed by epoch."""
        return self.history

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.module.parameters()).device

    def to_device(self, device: str | int | torch.device) -> None:
        """Move the network.

        Parameters
        ----------
        device
            ``"cpu"``, ``"cuda:1"``, the number of a CUDA device, or a torch device.

        Raises
        ------
        ArgumentError
            When there is no such device here.

        Examples
        --------
        >>> model.to_device("cpu")  # doctest: +SKIP
        """
        # A number alone is that of a CUDA device, as to torch.
        self.module.to(chosen_device("cuda" if isinstance(device, int) else "auto", device))

    @property
    def summary_string(self) -> str:
        """What the model is, in lines: its class, its main options, and whether it is trained.

        Examples
        --------
        >>> print(model.summary_string)  # doctest: +SKIP
        TOTALVI with the following params:
        n_latent: 20, gene_dispersion: gene, protein_dispersion: protein, ...
        Training status: Trained
        """
        options = ", ".join(f"{name}: {getattr(self.module.config, name)}" for name in _MAIN_OPTIONS)
        status = "Trained" if self.is_trained else "Not Trained"
        return f"{type(self).__name__} with the following params:\n{options}\nTraining status: {status}"

    @property
    def init_params_(self) -> dict[str, dict[str, Any]]:
        """Options of the network."""
        return {"non_kwargs": self.module.config.to_dict(), "kwargs": {}}


class LabelAttributes(BaseModel):
    """What users ask of a model that knows labels."""

    @property
    def n_cells(self) -> int:
        """Number of cells of the model's data."""
        return len(self._reference_cells())

    @property
    def n_labelled(self) -> int:
        """How many of them have a label."""
        return len(self._labeled_indices)

    @property
    def n_labels(self) -> int:
        """Number of labels, "not labelled" aside."""
        return len(self.registry.labels)

    @property
    def unlabeled_category_(self) -> str | tuple[str, ...] | None:
        """The value that means "not labelled", or all of them when they are several."""
        return unlabeled_category(self.registry)

    @property
    def original_label_key(self) -> str | None:
        """Column of the labels."""
        return self._setup.labels_key

    @property
    def labels_(self) -> npt.NDArray[np.object_]:
        """Label of each cell, (cells,), or the value that means "not labelled"; without data, the labels there are."""
        unlabeled = self.registry.unlabeled[0] if self.registry.unlabeled else None
        names = np.array([*self.registry.labels, unlabeled], dtype=object)
        cells = self._own_cells()
        # UNLABELLED is -1, the last.
        return names[:-1] if cells is None else names[cells.label]

    @property
    def _labeled_indices(self) -> npt.NDArray[np.intp]:
        return np.flatnonzero(self._reference_cells().label != UNLABELLED)

    @property
    def _unlabeled_indices(self) -> npt.NDArray[np.intp]:
        return np.flatnonzero(self._reference_cells().label == UNLABELLED)
