"""The checkpoint: a folder with a trained model, what it knows of its reference, and a sample of its cells.

::

    checkpoint/
      config.json           class, architecture, training options, history, versions; digests of the other files
      model.safetensors     weights, and which part of them may train
      registry.json         genes, proteins, labels, batches, panels, who measured what
      cells.safetensors     a sample of the reference: landmarks, and held-out cells; which cells trained
      readout.safetensors   the readout, if one was fitted
      report.html           what was trained on what and how it went, if it was trained: a page for people
      adata.h5ad            the reference itself, if it was asked for (mdata.h5mu)

All names may begin with a prefix. No file is a pickle.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save as array_bytes
from safetensors.torch import load_file
from safetensors.torch import save as tensor_bytes
from torch import Tensor

from totalanvi.training.checkpoints.config import (
    VERSION,
    checked_config,
    digests,
    readable_history,
    verified_files,
    written_history,
)
from totalanvi.training.checkpoints.folder import (
    CELLS,
    CONFIG,
    FORMAT,
    MODEL,
    READOUT,
    REGISTRY,
    REPORT,
    prepared_folder,
    require_prefix,
    require_writable,
    saved_data_file,
)
from totalanvi.training.checkpoints.reference_sample import ReferenceSample
from totalanvi.training.checkpoints.report import training_page
from totalanvi.training.checkpoints.saved_data import DataBeside
from totalanvi.training.errors import CheckpointError
from totalanvi.training.fitting.split import Split
from totalanvi.training.readout.readout import Readout
from totalanvi.training.registration.registry import Registry

__all__ = ["Checkpoint", "package_versions", "read_checkpoint", "write_checkpoint"]

_TRAINED_PART, _SPLIT = "trained_part.", "split."
_PACKAGES = ("totalanvi", "torch", "lightning", "anndata", "mudata", "numpy", "scipy")

_T = TypeVar("_T")


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint folder holds."""

    kind: str
    """``"TOTALVI"`` or ``"TOTALANVI"``."""
    weights: dict[str, Tensor]
    registry: Registry
    model: dict[str, Any]
    """Options of `ModelConfig`."""
    training: dict[str, Any]
    """Options of `TrainingConfig`, and what came of them: epochs, cells, the digest of the data."""
    history: dict[str, dict[str, float]]
    versions: dict[str, str]
    sample: ReferenceSample | None
    split: Split | None = None
    """Which cells of the reference trained, which validated; `None` when it was not trained."""
    frozen: tuple[str, ...] = ()
    """Names of parameters that do not train, of batch norms that keep their statistics, of dropouts that are off."""
    trained_parts: dict[str, Tensor] = field(default_factory=dict)
    """Of parameters of which a part alone trains: which part, bool, of the parameter's shape."""
    readout: Readout | None = None
    seed: int = 0
    """The model's own, which a training may have had another than."""
    was_pretrained: bool = False
    """Whether the model started from a totalVI model."""

    @property
    def is_trained(self) -> bool:
        """Whether the model was trained; one that is adapted to a query, and not yet trained on it, was not."""
        return bool(self.training) and self.training.get("adapted_to") != {}


def write_checkpoint(
    folder: Path,
    checkpoint: Checkpoint,
    overwrite: bool = False,
    prefix: str | None = None,
    beside: DataBeside | None = None,
) -> None:
    """Write a checkpoint beside its final name, then rename: what has its name is always whole.

    Parameters
    ----------
    folder
        The folder to write to. Of an existing one, only the files of a checkpoint with the same prefix are replaced;
        data that was saved beside stays when none is given.
    checkpoint
        What to write.
    overwrite
        Whether the folder may exist.
    prefix
        What file names begin with.
    beside
        Data to write with it.

    Raises
    ------
    CheckpointError
        When ``folder`` exists and ``overwrite`` is false, or when something else would be lost.
    """
    prefix = require_prefix(prefix)
    require_writable(folder, overwrite, prefix, () if beside is None else (beside.name,))
    kept = saved_data_file(folder, prefix)
    data = beside.name if beside is not None else None if kept is None else kept.name.removeprefix(prefix)
    with prepared_folder(folder, prefix) as made:

        def file(name: str) -> Path:
            return made / f"{prefix}{name}"

        # Not safetensors' save_file, which makes files that nobody but their owner can read, whatever the umask says.
        file(MODEL).write_bytes(tensor_bytes(_tensors(checkpoint)))
        checkpoint.registry.write(file(REGISTRY))
        arrays = {} if checkpoint.sample is None else checkpoint.sample.to_arrays()
        if checkpoint.split is not None:
            arrays |= {f"{_SPLIT}{name}": part.astype(np.int64) for name, part in vars(checkpoint.split).items()}
        if arrays:
            file(CELLS).write_bytes(array_bytes(arrays))
        if checkpoint.readout is not None:
            file(READOUT).write_bytes(array_bytes(checkpoint.readout.to_arrays()))
        if checkpoint.history:
            file(REPORT).write_text(training_page(checkpoint), encoding="utf-8")
        config = {
            "format": FORMAT,
            "version": VERSION,
            "class": checkpoint.kind,
            "model": checkpoint.model,
            "training": checkpoint.training,
            "versions": checkpoint.versions,
            "frozen": checkpoint.frozen,
            "seed": checkpoint.seed,
            "was_pretrained": checkpoint.was_pretrained,
            "data": data,
            "files": digests(made, prefix),
            "history": written_history(checkpoint.history),
        }
        file(CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        if beside is not None:
            beside.write(file(beside.name))


def read_checkpoint(folder: Path, prefix: str | None = None) -> Checkpoint:
    """Read a checkpoint.

    Raises
    ------
    CheckpointError
        When it is missing, incomplete, altered, or of a newer version.
    """
    prefix = require_prefix(prefix)
    try:
        config = checked_config(folder, prefix)
        files = verified_files(folder, prefix, config)
        tensors = load_file(files[MODEL])
        arrays = load_arrays(files[CELLS]) if CELLS in files else {}
        return Checkpoint(
            kind=config["class"],
            weights={name: tensor for name, tensor in tensors.items() if not name.startswith(_TRAINED_PART)},
            registry=Registry.read(files[REGISTRY]),
            model=config["model"],
            training=config["training"],
            history=readable_history(config["history"]),
            versions=config["versions"],
            sample=ReferenceSample.from_arrays(arrays),
            split=_split(arrays),
            frozen=tuple(config.get("frozen", ())),
            trained_parts=_within(tensors, _TRAINED_PART),
            readout=Readout.from_arrays(load_arrays(files[READOUT])) if READOUT in files else None,
            # Version 1 kept no other seed than that of training.
            seed=int(config.get("seed", config["training"].get("options", {}).get("seed", 0))),
            was_pretrained=bool(config.get("was_pretrained", False)),
        )
    except (OSError, LookupError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"Expected a whole checkpoint at {folder}, found one that cannot be read "
            f"({type(error).__name__}: {error}); train again, or restore the folder."
        ) from error


def package_versions() -> dict[str, str]:
    """Versions of the packages that made a model."""
    return {name: version(name) for name in _PACKAGES}


def _tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    parts = {f"{_TRAINED_PART}{name}": part for name, part in checkpoint.trained_parts.items()}
    return {name: tensor.detach().cpu().contiguous() for name, tensor in (checkpoint.weights | parts).items()}


def _split(arrays: dict[str, Any]) -> Split | None:
    parts = _within(arrays, _SPLIT)
    return Split(**{name: part.astype(np.intp) for name, part in parts.items()}) if parts else None


def _within(values: dict[str, _T], prefix: str) -> dict[str, _T]:
    """Those of ``values`` whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
