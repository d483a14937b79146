"""What the codes of mapped cells are called."""

from __future__ import annotations

import numpy as np

from totalanvi.serving.bundles.hierarchy import Hierarchy
from totalanvi.serving.bundles.manifest import UNKNOWN
from totalanvi.serving.features import ReferenceFeatures
from totalanvi.serving.mapped import MappedCells

__all__ = ["certain_names", "label_names", "label_set_names"]


def label_names(features: ReferenceFeatures) -> list[str]:
    """Return what `MappedCells.label` counts: the reference's labels, and what a novel cell is called."""
    return [*features.labels, UNKNOWN]


def certain_names(features: ReferenceFeatures) -> list[str]:
    """Return what `MappedCells.certain` counts: the labels, their ancestors, and what a cell without any is called."""
    return [*Hierarchy(features.labels, features.parents).names, UNKNOWN]


def label_set_names(mapped: MappedCells, features: ReferenceFeatures) -> list[str | None]:
    """Return the labels of each cell's set, joined by ``|``, (cells,); None for a cell that was not mapped."""
    # As few joins as there are different sets.
    sets, index = np.unique(mapped.label_set, axis=0, return_inverse=True)
    joined = ["|".join(name for name, within in zip(features.labels, row, strict=True) if within) for row in sets]
    return [joined[i] if code >= 0 else None for i, code in zip(index.ravel(), mapped.guess, strict=True)]
