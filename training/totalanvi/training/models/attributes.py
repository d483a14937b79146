"""Attributes and views of a model under the names that scripts written for scvi-tools use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from totalanvi.training.base import BaseModel
from totalanvi.training.checkpoints.checkpoint import read_checkpoint
from totalanvi.training.data import UNLABELLED
from totalanvi.training.errors import ArgumentError
from totalanvi.training.models.trainable import TrainableModel
from totalanvi.training.registration.attribute_dict import AttributeDict
from totalanvi.training.registration.data_registry import setup_arguments, unlabeled_category
from totalanvi.training.registration.manager import DataManager
from totalanvi.training.registration.setup_note import Data

__all__ = ["LabelAttributes", "ModelAttributes"]


class ModelAttributes(TrainableModel):
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

        Examples
        --------
        >>> model.to_device("cpu")  # doctest: +SKIP
        """
        self.module.to(torch.device(device))

    @property
    def modalities(self) -> dict[str, str] | None:
        """Which modality holds RNA and which proteins; `None` for AnnData."""
        if self._setup.rna is None or self._setup.proteins is None:
            return None
        return {"rna_layer": self._setup.rna, "protein_layer": self._setup.proteins}

    @property
    def adata_manager(self) -> DataManager:
        """Where the parts of the data are, and what they are."""
        return self._manager(self.adata, self._cells)

    @property
    def registry_(self) -> dict[str, Any]:
        """Everything that was registered, nested as in scvi-tools; `registry` is our own form of it."""
        return self.adata_manager.registry

    @property
    def init_params_(self) -> dict[str, dict[str, Any]]:
        """Options of the network."""
        return {"non_kwargs": self.module.config.to_dict(), "kwargs": {}}

    @property
    def summary_stats(self) -> AttributeDict:
        """Sizes: ``n_cells``, ``n_vars``, ``n_proteins``, ``n_batch``, ``n_labels`` and so on."""
        return self.adata_manager.summary_stats

    def get_anndata_manager(self, adata: Data, required: bool = False) -> DataManager:
        """Data manager of other data with the reference's features and columns.

        Parameters
        ----------
        adata
            The data. It need not be set up.
        required
            Has no meaning here: there always is one.

        Raises
        ------
        RegistrationError
            When ``adata`` lacks features or columns, or has categories that the model does not know.
        """
        if adata is self.adata:
            return self.adata_manager
        return self._manager(adata, self._read(adata))

    def get_from_registry(self, adata: Data, registry_key: str) -> Any:
        """A part of ``adata`` in model order; see `DataManager.get_from_registry`."""
        return self.get_anndata_manager(adata).get_from_registry(registry_key)

    def get_state_registry(self, registry_key: str) -> AttributeDict:
        """Names and categories of a part of the data; see `DataManager.get_state_registry`."""
        return self.adata_manager.get_state_registry(registry_key)

    def get_setup_arg(self, setup_arg: str) -> Any:
        """An argument of registration, by its name.

        Raises
        ------
        ArgumentError
            When registration has no such argument.
        """
        arguments = setup_arguments(self.registry)
        if setup_arg not in arguments:
            raise ArgumentError(
                f"setup_arg: expected one of {', '.join(arguments)}, found {setup_arg!r}; ask for one of them."
            )
        return arguments[setup_arg]

    def get_var_names(
        self, legacy_mudata_format: bool = False
    ) -> npt.NDArray[np.object_] | dict[str, npt.NDArray[np.object_]]:
        """Names of features in model order.

        Parameters
        ----------
        legacy_mudata_format
            For MuData, one array for both modalities.

        Returns
        -------
        numpy.ndarray or dict
            Genes, (genes,); for MuData, genes and proteins by modality.
        """
        genes, proteins = (np.array(names, dtype=object) for names in (self.registry.genes, self.registry.proteins))
        if self.modalities is None:
            return genes
        if legacy_mudata_format:
            return np.concatenate([genes, proteins])
        return {self.modalities["rna_layer"]: genes, self.modalities["protein_layer"]: proteins}

    def view_anndata_setup(self, adata: Data | None = None, hide_state_registries: bool = False) -> None:
        """Print how the data was registered: arguments, sizes, places and categories.

        Parameters
        ----------
        adata
            Other data; the model's own by default.
        hide_state_registries
            Leave out the categories.
        """
        manager = self.adata_manager if adata is None else self.get_anndata_manager(adata)
        manager.view_registry(hide_state_registries)

    def view_setup_method_args(self) -> None:
        """Print the arguments of registration."""
        self.adata_manager.view_setup_method_args()

    @staticmethod
    def view_setup_args(dir_path: str | Path, prefix: str | None = None) -> None:
        """Print the arguments of registration of a saved model.

        Parameters
        ----------
        dir_path, prefix
            As given to `save`.

        Raises
        ------
        CheckpointError
            When the checkpoint is not whole.
        """
        _saved_manager(dir_path, prefix).view_setup_method_args()

    @staticmethod
    def load_registry(dir_path: str | Path, prefix: str | None = None) -> dict[str, Any]:
        """Everything that was registered for a saved model; see `registry_`.

        Parameters
        ----------
        dir_path, prefix
            As given to `save`.

        Raises
        ------
        CheckpointError
            When the checkpoint is not whole.
        """
        return _saved_manager(dir_path, prefix).registry

    def _manager(self, adata: Data | None, cells: Any) -> DataManager:
        n_cells = len(cells) if cells is not None else int(self._training.get("n_cells", 0))
        return DataManager(type(self).__name__, self.registry, n_cells, adata, cells)


def _saved_manager(dir_path: str | Path, prefix: str | None) -> DataManager:
    saved = read_checkpoint(Path(dir_path), prefix)
    return DataManager(saved.kind, saved.registry, int(saved.training.get("n_cells", 0)), None, None)


class LabelAttributes(BaseModel):
    """What users ask of a model that knows labels."""

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
        # UNLABELLED is -1, the last.
        return names[:-1] if self._cells is None else names[self._cells.label]

    @property
    def _labeled_indices(self) -> npt.NDArray[np.intp]:
        return np.flatnonzero(self._reference_cells().label != UNLABELLED)

    @property
    def _unlabeled_indices(self) -> npt.NDArray[np.intp]:
        return np.flatnonzero(self._reference_cells().label == UNLABELLED)
