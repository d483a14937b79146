"""What scvi-tools 1.1 to 1.5 save of a model: a folder with ``model.pt``.

::

    {
      model_state_dict: weights, and an empty store of Pyro
      var_names:        genes (MuData: names of every modality)
      attr_dict: {
        registry_:      scvi_version, model_name, setup_method_name, setup_args, field_registries
        init_params_:   {kwargs: {model_kwargs: …}, non_kwargs: …}, the arguments of the model's class
        train_indices_, validation_indices_, is_trained_, history_, …
      }
    }
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from totalanvi.training.errors import CheckpointError
from totalanvi.training.fitting.split import Split
from totalanvi.training.scvi_import.inert import read_inert
from totalanvi.training.scvi_import.saved_folder import model_file

__all__ = ["ScviSave", "read_save"]

_CLASSES = ("TOTALVI", "TOTALANVI")
_SETUP_METHODS = ("setup_anndata", "setup_mudata")


@dataclass(frozen=True)
class ScviSave:
    """A saved model as plain values."""

    kind: str
    """``"TOTALVI"`` or ``"TOTALANVI"``."""
    version: str
    """Of scvi-tools, when the data was set up."""
    weights: dict[str, Tensor]
    """By the names of scvi-tools."""
    registry: dict[str, Any]
    """What the model knows of its reference."""
    options: dict[str, Any]
    """The arguments of the model's class."""
    split: Split | None
    """Positions of the cells that trained and validated it; `None` where the save does not tell."""
    n_cells: int
    """Cells of the data it was set up with."""
    is_trained: bool

    @property
    def setup_method(self) -> str:
        """``"setup_anndata"`` or ``"setup_mudata"``."""
        return str(self.registry.get("setup_method_name", _SETUP_METHODS[0]))

    @property
    def setup_args(self) -> dict[str, Any]:
        """The arguments with which the reference was set up."""
        return dict(self.registry["setup_args"])

    def state(self, field: str) -> dict[str, Any] | None:
        """What was registered of a field, ``"batch"`` for one; `None` where the data has no such field."""
        entry = self.registry["field_registries"].get(field, {})
        return dict(entry["state_registry"]) if entry.get("data_registry") else None


def read_save(folder: Path, prefix: str = "") -> ScviSave:
    """Read what ``model.save(folder, prefix=prefix)`` of scvi-tools wrote.

    Parameters
    ----------
    folder
        The folder.
    prefix
        What the names of its files begin with.

    Raises
    ------
    CheckpointError
        When there is no such model, it is of another class or older than scvi-tools 0.15, or it cannot be read.
    ArgumentError
        When the prefix leads out of the folder.
    """
    content = read_inert(model_file(folder, prefix))
    try:
        attributes = content["attr_dict"]
        registry = attributes["registry_"]
        kind, method = registry["model_name"], registry.get("setup_method_name", _SETUP_METHODS[0])
        if kind not in _CLASSES:
            raise CheckpointError(
                f"Expected a model of {' or '.join(_CLASSES)} in {folder}, found one of {kind}; give one that knows "
                "proteins."
            )
        if method not in _SETUP_METHODS:
            raise CheckpointError(
                f"Expected a model whose data was set up with {' or '.join(_SETUP_METHODS)} in {folder}, found "
                f"{method}; its names are not in the save: train it on an AnnData or a MuData."
            )
        weights = content["model_state_dict"]
        return ScviSave(
            kind=kind,
            version=str(registry["scvi_version"]),
            weights={name: value for name, value in weights.items() if isinstance(value, Tensor)},
            registry=registry,
            options=_flat(attributes["init_params_"]),
            split=_split(attributes),
            n_cells=int(registry["field_registries"]["X"]["state_registry"]["n_obs"]),
            is_trained=bool(attributes.get("is_trained_", False)),
        )
    except (AttributeError, LookupError, TypeError) as error:
        raise CheckpointError(
            f"Expected a model that scvi-tools 1.1 to 1.5 saved in {folder}, found another layout "
            f"({type(error).__name__}: {error}); load it and save it anew with scvi-tools."
        ) from error


def _flat(init_params: dict[str, Any]) -> dict[str, Any]:
    """Arguments that were named, and those that were caught by ``**model_kwargs``, side by side."""
    caught = {name: value for group in init_params["kwargs"].values() for name, value in group.items()}
    return {**init_params["non_kwargs"], **caught}


def _split(attributes: dict[str, Any]) -> Split | None:
    if attributes.get("train_indices_") is None:
        return None
    parts = [attributes.get(f"{name}_indices_") for name in ("train", "validation", "test")]
    return Split(
        *(np.empty(0, np.intp) if part is None else np.asarray(part).astype(np.intp).ravel() for part in parts)
    )
