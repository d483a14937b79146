"""What is named in the place of a bundle, and how to get from there to one."""

from __future__ import annotations

import json
from pathlib import Path

from totalanvi.formats.stores import MATRIX_FILES, ZARR_ROOTS
from totalanvi.serving.bundles.manifest import MANIFEST_FILE
from totalanvi.serving.errors import BundleError

__all__ = ["no_bundle"]

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
    if not path.exists():
        return "nothing", _NAME_A_BUNDLE
    if path.is_file():
        if (path.parent / MANIFEST_FILE).is_file():
            return "a file of one", f"name its folder ({path.parent})"
        if path.suffix in _CELLS:
            return "a file of cells", f"{_NAME_A_BUNDLE}; cells to map come after it"
        return "a file", _NAME_A_BUNDLE
    if any((path / name).is_file() for name in (*ZARR_ROOTS, *MATRIX_FILES)):
        return "a folder of cells", f"{_NAME_A_BUNDLE}; cells to map come after it"
    if _is_checkpoint(path):
        return "a checkpoint of training", f"make a bundle of it (totalanvi export {path} -o BUNDLE)"
    if (path / _SCVI_SAVE).is_file():
        cure = f"make a checkpoint of it (totalanvi import-scvi {path} -o CHECKPOINT/), and a bundle of that"
        return "a model that scvi-tools saved", f"{cure} (totalanvi export CHECKPOINT/ -o BUNDLE)"
    return f"a folder without {MANIFEST_FILE}", _NAME_A_BUNDLE


def _is_checkpoint(folder: Path) -> bool:
    try:
        config = json.loads((folder / _CHECKPOINT_CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and config.get("format") == _CHECKPOINT_FORMAT
