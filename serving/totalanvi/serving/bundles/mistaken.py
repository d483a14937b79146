"""What is named in the place of a bundle, and how to get from there to one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, TypeAlias

from totalanvi.formats.stores import MATRIX_FILES, ZARR_ROOTS
from totalanvi.serving.bundles.manifest import MANIFEST_FILE
from totalanvi.serving.errors import BundleError

__all__ = ["Kind", "no_bundle", "what_is_at"]

Kind: TypeAlias = Literal[
    "nothing", "file", "file of a bundle", "file of cells", "bundle", "folder of cells", "checkpoint", "scvi", "folder"
]
"""What a path may hold; "scvi" is a model that scvi-tools saved."""

_CHECKPOINT_CONFIG, _CHECKPOINT_FORMAT = "config.json", "totalanvi checkpoint"
"""By what a checkpoint is known; what else it holds is the business of training and export."""

_SCVI_SAVE = "model.pt"
_CELLS = (".h5ad", ".h5mu", ".h5")
_NAME_A_BUNDLE = "name what `export` wrote"


def no_bundle(path: Path) -> BundleError:
    """Return the error for a path that is no bundle: what it is instead, and what to do.

    Parameters
    ----------
    path
        A file, a folder without a manifest, or nothing.

    Examples
    --------
    >>> print(no_bundle(Path("query.h5ad")))
    query.h5ad: expected the folder of a bundle, found nothing; name what `export` wrote.
    """
    found, cure = _seen(path)
    return BundleError(f"{path}: expected the folder of a bundle, found {found}; {cure}.")


def _seen(path: Path) -> tuple[str, str]:
    """Say what there is, and how to get from there to a bundle."""
    kind = what_is_at(path)
    cells = f"{_NAME_A_BUNDLE}; cells to map come after it"
    scvi = f"make a checkpoint of it (totalanvi import-scvi {path} -o CHECKPOINT/), and a bundle of that"
    said: dict[Kind, tuple[str, str]] = {
        "nothing": ("nothing", _NAME_A_BUNDLE),
        "file of a bundle": ("a file of one", f"name its folder ({path.parent})"),
        "file of cells": ("a file of cells", cells),
        "file": ("a file", _NAME_A_BUNDLE),
        "folder of cells": ("a folder of cells", cells),
        "checkpoint": ("a checkpoint of training", f"make a bundle of it (totalanvi export {path} -o BUNDLE)"),
        "scvi": ("a model that scvi-tools saved", f"{scvi} (totalanvi export CHECKPOINT/ -o BUNDLE)"),
    }
    return said.get(kind, (f"a folder without {MANIFEST_FILE}", _NAME_A_BUNDLE))


def what_is_at(path: Path) -> Kind:
    """Tell what a path holds, by names and by what a checkpoint says of itself.

    Examples
    --------
    >>> what_is_at(Path("nowhere"))
    'nothing'
    """
    if not path.exists():
        return "nothing"
    if path.is_file():
        if (path.parent / MANIFEST_FILE).is_file():
            return "file of a bundle"
        return "file of cells" if path.suffix in _CELLS else "file"
    if (path / MANIFEST_FILE).is_file():
        return "bundle"
    if any((path / name).is_file() for name in (*ZARR_ROOTS, *MATRIX_FILES)):
        return "folder of cells"
    if _is_checkpoint(path):
        return "checkpoint"
    return "scvi" if (path / _SCVI_SAVE).is_file() else "folder"


def _is_checkpoint(folder: Path) -> bool:
    try:
        config = json.loads((folder / _CHECKPOINT_CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and config.get("format") == _CHECKPOINT_FORMAT
