"""What a model knows of how its data was registered, under the names that scripts written for scvi-tools use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from totalanvi.training.checkpoints.checkpoint import read_checkpoint
from totalanvi.training.checks import as_path, require_flags
from totalanvi.training.data import Cells
from totalanvi.training.errors import ArgumentError
from totalanvi.training.models.trainable import TrainableModel
from totalanvi.training.registration.attribute_dict import AttributeDict
from totalanvi.training.registration.data_registry import setup_arguments
from totalanvi.training.registration.manager import DataManager
from totalanvi.training.registration.setup_note import Data

__all__ = ["RegistrationAttributes"]


class RegistrationAttributes(TrainableModel):
    """What users ask of a model about its data."""

    @property
    def modalities(self) -> dict[str, str] | None:
        """Which modality holds RNA and which proteins; `None` for AnnData."""
        if self._setup.rna is None or self._setup.proteins is None:
            return None
        return {"rna_layer": self._setup.rna, "protein_layer": self._setup.proteins}

    @property
    def adata_manager(self) -> DataManager:
        """Where the parts of the data are, and what they are."""
        return self._manager(self.adata, self._own_cells())

    @property
    def registry_(self) -> dict[str, Any]:
        """Everything that was registered, nested as in scvi-tools; `registry` is our own form of it."""
        return self.adata_manager.registry

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

        Examples
        --------
        >>> model.get_anndata_manager(query).summary_stats.n_batch  # doctest: +SKIP
        2
        """
        require_flags(required=required)
        if adata is self.adata:
            return self.adata_manager
        return self._manager(adata, self._read(adata))

    def get_from_registry(self, adata: Data, registry_key: str) -> Any:
        """A part of ``adata`` in model order; see `DataManager.get_from_registry`.

        Raises
        ------
        TrainingError
            As `get_anndata_manager` and `DataManager.get_from_registry`.

        Examples
        --------
        >>> model.get_from_registry(adata, "X")  # doctest: +SKIP
        """
        return self.get_anndata_manager(adata).get_from_registry(registry_key)

    def get_state_registry(self, registry_key: str) -> AttributeDict:
        """Names and categories of a part of the data; see `DataManager.get_state_registry`.

        Raises
        ------
        ArgumentError
            When the data has no such part.

        Examples
        --------
        >>> model.get_state_registry("batch").categorical_mapping  # doctest: +SKIP
        array(['batch_0', 'batch_1'], dtype=object)
        """
        return self.adata_manager.get_state_registry(registry_key)

    def data_registry(self, registry_key: str) -> Any:
        """A part of the model's data in model order; see `DataManager.get_from_registry`.

        Raises
        ------
        ArgumentError
            When the model has no data, or the data has no such part.

        Examples
        --------
        >>> model.data_registry("batch")  # doctest: +SKIP
        """
        return self.adata_manager.get_from_registry(registry_key)

    def get_setup_arg(self, setup_arg: str) -> Any:
        """An argument of registration, by its name.

        Raises
        ------
        ArgumentError
            When registration has no such argument.

        Examples
        --------
        >>> model.get_setup_arg("batch_key")  # doctest: +SKIP
        'batch'
        """
        arguments = setup_arguments(self.registry)
        if setup_arg not in list(arguments):
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

        Raises
        ------
        ArgumentError
            For a flag that is neither true nor false.

        Examples
        --------
        >>> model.get_var_names()["prot"]  # doctest: +SKIP
        """
        require_flags(legacy_mudata_format=legacy_mudata_format)
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

        Raises
        ------
        RegistrationError
            As `get_anndata_manager`.
        ArgumentError
            For a flag that is neither true nor false.

        Examples
        --------
        >>> model.view_anndata_setup(hide_state_registries=True)  # doctest: +SKIP
        """
        manager = self.adata_manager if adata is None else self.get_anndata_manager(adata)
        manager.view_registry(hide_state_registries)

    def view_registry(self, hide_state_registries: bool = False) -> None:
        """Print how the model's data was registered, as `view_anndata_setup` does; the model need not have its data.

        Raises
        ------
        ArgumentError
            For a flag that is neither true nor false.

        Examples
        --------
        >>> TOTALANVI.load("checkpoint/", adata=False).view_registry()  # doctest: +SKIP
        """
        self.adata_manager.view_registry(hide_state_registries)

    def view_setup_method_args(self) -> None:
        """Print the arguments of registration.

        Examples
        --------
        >>> model.view_setup_method_args()  # doctest: +SKIP
        """
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

        Examples
        --------
        >>> TOTALANVI.view_setup_args("checkpoint/")  # doctest: +SKIP
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

        Examples
        --------
        >>> TOTALANVI.load_registry("checkpoint/")["setup_args"]["batch_key"]  # doctest: +SKIP
        'batch'
        """
        return _saved_manager(dir_path, prefix).registry

    def _manager(self, adata: Data | None, cells: Cells | None) -> DataManager:
        n_cells = int(self._training.get("n_cells", 0)) if cells is None else len(cells)
        return DataManager(type(self).__name__, self.registry, n_cells, adata, cells)


def _saved_manager(dir_path: str | Path, prefix: str | None) -> DataManager:
    saved = read_checkpoint(as_path("dir_path", dir_path), prefix)
    return DataManager(saved.kind, saved.registry, int(saved.training.get("n_cells", 0)), None, None)
