"""The folder that a demo leaves: judged before torch is imported."""

from __future__ import annotations

import os
from pathlib import Path

from totalanvi.export.errors import TargetError
from totalanvi.formats.places import no_folder, obstacle

__all__ = ["PRODUCTS", "require_replaceable"]

PRODUCTS = ("bundle", "query.h5mu", "query_annotated.h5mu", "map.png")
"""What is in it."""


def require_replaceable(folder: Path, overwrite: bool) -> None:
    """Refuse before the work, not after it; never touch what no demo made.

    Parameters
    ----------
    folder
        Folder to make.
    overwrite
        Whether the products of an earlier demo may be replaced.

    Raises
    ------
    TargetError
        When the folder cannot be made, exists and may not be replaced, or holds something else.
    """
    if not os.path.lexists(folder):
        if found := obstacle(folder):
            raise TargetError(f"Expected a folder in which to make {folder}, found {found}; choose another.")
        return
    if found := no_folder(folder):
        raise TargetError(f"Expected a folder for the demo at {folder}, found {found}; choose another.")
    foreign = sorted(entry.name for entry in folder.iterdir() if entry.name not in PRODUCTS)
    if foreign:
        raise TargetError(
            f"Expected {folder} to hold an earlier demo or nothing, found {foreign[0]!r}; choose another folder."
        )
    if not overwrite and any(folder.iterdir()):
        raise TargetError(
            f"Expected no earlier demo in {folder}, found one; choose another folder, or allow --overwrite."
        )
