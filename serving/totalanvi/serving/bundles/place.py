"""Where a bundle may be put: nothing else is lost for it."""

from __future__ import annotations

import os
from pathlib import Path

from totalanvi.formats.places import no_folder, obstacle
from totalanvi.serving.bundles.bundle import bundle_files
from totalanvi.serving.bundles.graphs import DEVICE_GRAPHS, label_graphs
from totalanvi.serving.bundles.manifest import CARD_FILE, MANIFEST_FILE, REPORT_FILE
from totalanvi.serving.bundles.signature import SIGNATURE_FILE
from totalanvi.serving.errors import OutputError

__all__ = ["require_place"]

_OURS = {
    *(MANIFEST_FILE, SIGNATURE_FILE, CARD_FILE, REPORT_FILE, "model.yaml"),
    *bundle_files(readout=True),
    *(graph.file for graph in (*label_graphs(readout=True), *DEVICE_GRAPHS)),
}
"""`model.yaml` is what a model store adds."""


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
        When it cannot be made, is no folder, holds something else than a bundle, or may not be replaced.
    """
    if not os.path.lexists(target):
        if found := obstacle(target):
            raise OutputError(f"{target}: expected a place where a folder can be made, found {found}; choose another.")
        return
    if found := no_folder(target):
        raise OutputError(f"{target}: expected the name of a folder to make, found {found}; choose another.")
    if foreign := sorted({entry.name for entry in target.iterdir()} - _OURS):
        raise OutputError(
            f"{target}: expected a folder that does not exist, or holds a bundle alone, found {foreign[0]!r} in it, "
            "which would be lost; choose another."
        )
    if not overwrite:
        raise OutputError(
            f"{target}: expected a folder that does not exist, found one; choose another, or allow to replace it "
            "(--overwrite)."
        )
