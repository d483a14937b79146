"""What the codes of mapped cells are called."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from totalanvi.serving.bundles.hierarchy import Hierarchy
from totalanvi.serving.bundles.manifest import UNKNOWN
from totalanvi.serving.features import ReferenceFeatures
from totalanvi.serving.mapped import MappedCells

__all__ = ["certain_names", "label_names", "label_sets"]


def label_names(features: ReferenceFeatures) -> list[str]:
    """Return what `MappedCells.label` counts: the reference's labels, and what a novel cell is called."""
    return [*features.labels, UNKNOWN]


def certain_names(features: ReferenceFeatures) -> list[str]:
    """Return what `MappedCells.certain` counts: the labels, their ancestors, and what a cell without any is called."""
    return [*Hierarchy(features.labels, features.parents).names, UNKNOWN]


def label_sets(mapped: MappedCells, features: ReferenceFeatures) -> tuple[npt.NDArray[np.int32], list[str]]:
    """Tell which labels are in each cell's set.

    Returns
    -------
    codes, names
        Position of each cell's set among the names (cells,), -1 of a cell that was not mapped; and of each set that
        occurs the labels, joined by ``|``, sorted.
    """
    there = mapped.guess >= 0
    # Eight labels a byte, so that cells are compared at once and not label by label.
    packed = np.packbits(mapped.label_set[there], axis=1)
    found, inverse = np.unique(packed.view(f"V{packed.shape[1]}").ravel(), return_inverse=True)
    within = np.unpackbits(found.view(np.uint8).reshape(-1, packed.shape[1]), axis=1, count=len(features.labels))
    of_found = ["|".join(np.array(features.labels, dtype=object)[row]) for row in within.astype(bool)]
    # Two sets may have the same name where a label has "|" in its own; `obsm` and tables have a column for each label.
    ranks = {name: rank for rank, name in enumerate(sorted(set(of_found)))}
    codes = np.full(len(mapped), -1, dtype=np.int32)
    codes[there] = np.array([ranks[name] for name in of_found], dtype=np.int32)[inverse.ravel()]
    return codes, list(ranks)
