"""Results in an annotated copy of a query: columns of ``obs``, frames in ``obsm``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from totalanvi.serving.outputs.annotate import CONFIDENCE, LABEL, LABEL_SET, NOVELTY, UNS_KEY
from totalanvi.serving.report.stored_results import WINDOW, StoredResults, label_codes, not_mapped
from totalanvi.serving.report.tally import CellResults

if TYPE_CHECKING:
    import h5py

__all__ = ["hdf5_results"]

_MAP, _PROTEIN = "X_totalanvi_map", "totalanvi_protein"


def hdf5_results(file: h5py.File, path: Path) -> StoredResults:
    """Find results in an open ``.h5ad`` or ``.h5mu`` file.

    Parameters
    ----------
    file
        Opened for reading.
    path
        Names it in messages.

    Raises
    ------
    QueryError
        When mapping did not write it.
    """
    from anndata.io import read_elem

    for place in (f"uns/{UNS_KEY}", f"obs/{LABEL}/codes", f"obs/{CONFIDENCE}", f"obs/{NOVELTY}", f"obsm/{LABEL_SET}"):
        if place not in file:
            raise not_mapped(path, repr(place))
    labels = _columns(file["obsm"][LABEL_SET])
    proteins = _columns(file["obsm"][_PROTEIN]) if _PROTEIN in file["obsm"] else []
    codes = label_codes([str(name) for name in read_elem(file["obs"][LABEL]["categories"])], labels)
    n_cells = file["obs"][LABEL]["codes"].shape[0]

    def blocks() -> Iterator[CellResults]:
        obs, obsm = file["obs"], file["obsm"]
        for start in range(0, n_cells, WINDOW):
            rows = slice(start, start + WINDOW)
            yield CellResults(
                label=codes[obs[LABEL]["codes"][rows]],
                confidence=obs[CONFIDENCE][rows].astype(np.float32),
                novelty=obs[NOVELTY][rows].astype(np.float32),
                set_size=sum(obsm[LABEL_SET][name][rows].astype(np.intp) for name in labels),
                coordinates=obsm[_MAP][rows].astype(np.float32) if _MAP in obsm else None,
                protein=np.stack([obsm[_PROTEIN][name][rows] for name in proteins], axis=1) if proteins else None,
            )

    return StoredResults(read_elem(file["uns"][UNS_KEY]), labels, proteins, blocks)


def _columns(frame: Any) -> list[str]:
    return [str(name) for name in np.asarray(frame.attrs["column-order"]).tolist()]
