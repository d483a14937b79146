"""Where a bundle may be put: nothing else is lost for it."""

from __future__ import annotations

from pathlib import Path

from totalanvi.serving.bundles.bundle import bundle_files
from totalanvi.serving.bundles.manifest import CARD_FILE, MANIFEST_FILE, REPORT_FILE
from totalanvi.serving.bundles.signature import SIGNATURE_FILE
from totalanvi.serving.errors import OutputError

__all__ = ["foreign_entries", "require_place"]

_OURS = {MANIFEST_FILE, SIGNATURE_FILE, *bundle_files(readout=True), CARD_FILE, REPORT_FILE, "model.yaml"}
"""`model.yaml` is what a model store adds."""


def foreign_entries(folder: Path) -> list[str]:
    """Name what is in a folder and is not a bundle's."""
    return sorted({entry.name for entry in folder.iterdir()} - _OURS)


def require_place(target: Path, overwrite: bool) -> None:
    """Judge where a bundle is to go, before any work is done.

    Parameters
    ----------
    target
        Folder to make.
    overwrite
        Whether a bundle that is there may be replaced.

    Raises
    ------
    OutputError
        When it is no folder, holds something else than a bundle, may not be replaced, or has no folder to stand in.
    """
    if not target.absolute().parent.is_dir():
        raise OutputError(f"Expected a folder for the bundle; found none at {str(target.parent)!r}. Create it.")
    if not target.exists():
        return
    if not target.is_dir():
        raise OutputError(f"Expected the name of a folder to make; found the file {str(target)!r}. Choose another.")
    if foreign := foreign_entries(target):
        raise OutputError(
            f"Expected a folder that does not exist, or holds a bundle alone; found {foreign[0]!r} in {str(target)!r}, "
            "which would be lost. Choose another."
        )
    if not overwrite:
        raise OutputError(
            f"Expected a folder that does not exist; found {str(target)!r}. Choose another, or allow to replace it "
            "(--overwrite)."
        )
