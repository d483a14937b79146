"""The data manager of a model: what scripts written for scvi-tools ask ``model.adata_manager`` for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from totalanvi.training.checks import require_flags
from totalanvi.training.data import UNLABELLED, Cells
from totalanvi.training.errors import ArgumentError
from totalanvi.training.registration.attribute_dict import AttributeDict
from totalanvi.training.registration.data_registry import data_registry, setup_arguments, state_registry, summary_stats
from totalanvi.training.registration.registry import Registry
from totalanvi.training.registration.setup_note import Data
from totalanvi.training.registration.setup_view import view_registry, view_setup_arguments

__all__ = ["DataManager"]

_PARTS: dict[str, Callable[[Cells], Any]] = {
    "X": lambda cells: cells.rna,
    "proteins": lambda cells: cells.protein.astype(np.float32, copy=False),
    "batch": lambda cells: cells.batch[:, None],
    "panel": lambda cells: cells.panel[:, None],
    "size_factor": lambda cells: cells.size_factor,
    "extra_categorical_covs": lambda cells: cells.categorical,
    "extra_continuous_covs": lambda cells: cells.continuous,
}


@dataclass(frozen=True, eq=False, repr=False)
class DataManager:
    """Where the parts of a model's data are, and what they are.

    Parameters
    ----------
    model_name
        Class of the model.
    names
        What the model knows of its reference.
    n_cells
        Number of cells of the reference.
    adata
        The data, if the model has any.
    cells
        The same, in model order.

    Examples
    --------
    >>> model.adata_manager.get_state_registry("batch").categorical_mapping  # doctest: +SKIP
    array(['batch_0', 'batch_1'], dtype=object)
    """

    model_name: str
    names: Registry
    n_cells: int
    adata: Data | None
    cells: Cells | None

    @property
    def data_registry(self) -> AttributeDict:
        """Where each part is; see `totalanvi.training.registration.data_registry`."""
        return data_registry(self.names)

    @property
    def summary_stats(self) -> AttributeDict:
        """Sizes: ``n_cells``, ``n_vars``, ``n_proteins``, ``n_batch``, ``n_labels`` and so on."""
        return summary_stats(self.names, self.n_cells)

    @property
    def registry(self) -> dict[str, Any]:
        """Everything that is registered, nested as in scvi-tools."""
        states = state_registry(self.names, self.n_cells)
        return {
            "model_name": self.model_name,
            "setup_method_name": f"setup_{self.names.setup['kind']}",
            "setup_args": setup_arguments(self.names),
            "field_registries": {
                key: {"data_registry": place, "state_registry": states[key]}
                for key, place in self.data_registry.items()
            },
        }

    def get_state_registry(self, registry_key: str) -> AttributeDict:
        """Names and categories of a part of the data, in the order of the model's codes.

        Raises
        ------
        ArgumentError
            When the data has no such part.
        """
        self._require(registry_key)
        state: AttributeDict = state_registry(self.names, self.n_cells)[registry_key]
        return state

    def get_from_registry(self, registry_key: str) -> Any:
        """A part of the data, in model order.

        Parameters
        ----------
        registry_key
            ``"X"``, ``"batch"``, ``"labels"``, ``"proteins"``, ``"size_factor"``, ``"extra_categorical_covs"``,
            ``"extra_continuous_covs"`` or ``"panel"``.

        Returns
        -------
        scipy.sparse.csr_matrix, StoredCounts or numpy.ndarray
            RNA counts, (cells, genes), sparse, or what reads them from their file when it is indexed; protein counts,
            (cells, proteins), 0 where not measured; codes, (cells, 1) or (cells, covariates); of cells without a label,
            the code after the last label.

        Raises
        ------
        ArgumentError
            When the model has no data, or the data has no such part.
        """
        self._require(registry_key)
        if self.cells is None:
            raise ArgumentError("Expected a model with data, found one without; load it with adata=...")
        if registry_key == "labels":
            label = self.cells.label
            return np.where(label == UNLABELLED, len(self.names.labels), label)[:, None]
        return _PARTS[registry_key](self.cells)

    def view_registry(self, hide_state_registries: bool = False) -> None:
        """Print arguments of registration, sizes, places and, unless they are hidden, categories.

        Raises
        ------
        ArgumentError
            For a flag that is neither true nor false.
        """
        require_flags(hide_state_registries=hide_state_registries)
        view_registry(self.registry, self.summary_stats, hide_state_registries)

    def view_setup_method_args(self) -> None:
        """Print the arguments of registration."""
        view_setup_arguments(self.registry)

    def _require(self, registry_key: str) -> None:
        if registry_key not in list(self.data_registry):
            raise ArgumentError(
                f"Expected one of {', '.join(self.data_registry)}, found {registry_key!r}; ask for one of them."
            )
