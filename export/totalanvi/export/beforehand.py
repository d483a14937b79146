"""What can be told of an export before the checkpoint is read and torch is imported: slips in names and places."""

from __future__ import annotations

from pathlib import Path

from totalanvi.export.errors import SourceError
from totalanvi.export.model_card import checked_licence
from totalanvi.export.parents import table_of_parents
from totalanvi.export.precision.known import checked_precision
from totalanvi.export.target import checked_name, require_writable
from totalanvi.serving.bundles.mistaken import what_is_at
from totalanvi.serving.bundles.signature import read_signing_key
from totalanvi.training.checkpoints.config import config_file

__all__ = ["judged_name"]


def judged_name(
    checkpoint: Path,
    target: Path,
    name: str | None,
    version: str | None,
    overwrite: bool,
    licence: str,
    *,
    parents: Path | None,
    sign: Path | None,
    precision: str,
) -> str:
    """Return the name of a reference, when names and places are as they should be.

    Parameters
    ----------
    checkpoint, target, name, version, overwrite, licence, parents, sign, precision
        See `totalanvi.export.bundle.export_bundle`.

    Raises
    ------
    TargetError
        When the bundle may not be written there, or no store or hub would take the name, the version or the licence.
    PrecisionError
        When no bundle has the precision.
    CheckpointError
        When there is no checkpoint.
    SourceError
        When there are cells or a bundle in the place of one.
    ParentsError
        When there is no such table of parents.
    SettingsError
        When there is no such key.
    """
    checked_precision(precision)
    name = checked_name(target, name, version)
    require_writable(target, overwrite)
    checked_licence(licence)
    _require_checkpoint(checkpoint)
    if parents is not None:
        table_of_parents(parents)
    if sign is not None:
        read_signing_key(sign)
    return name


def _require_checkpoint(checkpoint: Path) -> None:
    kind = what_is_at(checkpoint)
    if kind in ("file of cells", "folder of cells"):
        raise SourceError(
            f"Expected a checkpoint at {checkpoint}, found a {kind}; train on it "
            f"first (totalanvi train {checkpoint} --labels COLUMN -o CHECKPOINT/) and export what that wrote."
        )
    if kind == "bundle":
        raise SourceError(
            f"Expected a checkpoint at {checkpoint}, found a bundle, which is exported already; serve it "
            f"(totalanvi serve {checkpoint}), or give the folder that `train` wrote."
        )
    config_file(checkpoint)
