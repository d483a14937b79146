"""What can be told of an export before the checkpoint is read and torch is imported: slips in names and places."""

from __future__ import annotations

from pathlib import Path

from totalanvi.export.model_card import checked_licence
from totalanvi.export.target import checked_name, require_writable
from totalanvi.training.checkpoints.config import config_file

__all__ = ["judged_name"]


def judged_name(
    checkpoint: Path, target: Path, name: str | None, version: str | None, overwrite: bool, licence: str
) -> str:
    """Return the name of a reference, when names and places are as they should be.

    Parameters
    ----------
    checkpoint, target, name, version, overwrite, licence
        See `totalanvi.export.bundle.export_bundle`.

    Raises
    ------
    TargetError
        When the bundle may not be written there, or no store or hub would take the name, the version or the licence.
    CheckpointError
        When there is no checkpoint.
    """
    name = checked_name(target, name, version)
    require_writable(target, overwrite)
    checked_licence(licence)
    config_file(checkpoint)
    return name
