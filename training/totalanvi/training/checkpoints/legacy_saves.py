"""Saves in parts: the layout that scvi-tools had before 0.15, which scripts still make by hand.

::

    saved/
      model_params.pt   weights, by torch
      attr.pkl          a pickle of the model's attributes whose names end in "_"
      var_names.csv     names of genes

Our models give their attributes as plain values, and plain values alone are read (`plain_pickle`): nothing of such a
file can run.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from totalanvi.training.checkpoints.checkpoint import Checkpoint, package_versions
from totalanvi.training.checkpoints.plain_pickle import read_plain_pickle
from totalanvi.training.errors import CheckpointError
from totalanvi.training.fitting.split import Split
from totalanvi.training.registration.registry import Registry

__all__ = ["plain_attributes", "read_legacy_save"]

_WEIGHTS, _ATTRIBUTES = "model_params.pt", "attr.pkl"


def plain_attributes(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a checkpoint holds beside its weights and cells, as plain values by attribute."""
    split = checkpoint.split
    values = {
        "class_": checkpoint.kind,
        "registry_": asdict(checkpoint.registry),
        "init_params_": checkpoint.model,
        "training_": checkpoint.training,
        "is_trained_": checkpoint.is_trained,
        "history_": checkpoint.history,
        "split_": None if split is None else {name: part.tolist() for name, part in vars(split).items()},
        "frozen_": checkpoint.frozen,
        "seed_": checkpoint.seed,
        "was_pretrained_": checkpoint.was_pretrained,
        "trained_parts_": {name: part.tolist() for name, part in checkpoint.trained_parts.items()},
    }
    plain: dict[str, Any] = json.loads(json.dumps(values))
    return plain


def read_legacy_save(folder: Path, prefix: str = "") -> Checkpoint:
    """Read a save in parts of one of our models.

    Raises
    ------
    CheckpointError
        When a file is missing, damaged, holds what could run code, or is of another program.
    """
    file = folder / f"{prefix}{_ATTRIBUTES}"
    try:
        attributes = read_plain_pickle(file.read_bytes())
        split = attributes["split_"]
        return Checkpoint(
            kind=attributes["class_"],
            weights=_weights(folder / f"{prefix}{_WEIGHTS}"),
            registry=Registry.of_fields(attributes["registry_"], "registry_"),
            model=attributes["init_params_"],
            training=attributes["training_"],
            history=attributes["history_"],
            versions=package_versions(),
            sample=None,
            split=None if split is None else Split(**{name: np.array(part, np.intp) for name, part in split.items()}),
            frozen=tuple(attributes["frozen_"]),
            seed=attributes["seed_"],
            was_pretrained=attributes["was_pretrained_"],
            trained_parts={name: torch.tensor(part) for name, part in attributes["trained_parts_"].items()},
        )
    except (OSError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise CheckpointError(f"{file}: {error}") from error
        raise CheckpointError(
            f"{folder}: expected a save in parts of a model of totalanvi, found one that cannot be read "
            f"({type(error).__name__}: {error}); save the model again, with save(...)."
        ) from error


def _weights(path: Path) -> dict[str, Tensor]:
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch raises for a file that is none of its own, or holds more than tensors
        raise ValueError(f"{path.name} holds no weights: {error}") from error
    if not isinstance(weights, dict) or not all(isinstance(weight, Tensor) for weight in weights.values()):
        raise ValueError(f"{path.name} holds something else than weights")
    return dict(weights)
