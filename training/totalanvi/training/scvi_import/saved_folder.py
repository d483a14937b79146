"""The folder that scvi-tools saved a model in: judged by its names alone, before torch is imported."""

from __future__ import annotations

from pathlib import Path

from totalanvi.training.checkpoints.folder import require_prefix
from totalanvi.training.errors import CheckpointError

__all__ = ["model_file"]

_MODEL = "model.pt"


def model_file(folder: Path, prefix: str = "") -> Path:
    """Find the model in the folder that ``model.save(folder, prefix=prefix)`` of scvi-tools wrote.

    Parameters
    ----------
    folder, prefix
        See `totalanvi.training.scvi_import.saves.read_save`.

    Raises
    ------
    CheckpointError
        When there is none, or one that scvi-tools saved before 0.15.
    ArgumentError
        When the prefix leads out of the folder.
    """
    prefix = require_prefix(prefix)
    file = folder / f"{prefix}{_MODEL}"
    if file.is_file():
        return file
    if not folder.is_dir():
        what = "a file" if folder.exists() else "nothing"
        raise CheckpointError(f"Expected a folder that scvi-tools saved at {folder}, found {what}; give the folder.")
    names = sorted(found.name for found in folder.iterdir() if found.is_file())
    if f"{prefix}model_params.pt" in names or f"{prefix}attr.pkl" in names:
        raise CheckpointError(
            f"Expected {file.name} in {folder}, found the layout that scvi-tools had before 0.15; convert it with "
            "scvi.model.TOTALVI.convert_legacy_save(...)."
        )
    if "config.json" in names and "model.safetensors" in names:
        raise CheckpointError(
            f"Expected a folder that scvi-tools saved at {folder}, found a checkpoint of totalanvi; use it as it is."
        )
    others = [name.removesuffix(_MODEL) for name in names if name.endswith(_MODEL)]
    cure = f"name its prefix, {' or '.join(map(repr, others))}" if others else "give the folder that holds it"
    raise CheckpointError(f"Expected {file.name} in {folder}, found {', '.join(names[:5]) or 'no file'}; {cure}.")
