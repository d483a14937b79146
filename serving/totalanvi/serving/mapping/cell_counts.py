"""How many cells have which label, and proteins, counted while they pass."""

from __future__ import annotations

from collections import Counter

from totalanvi.serving.features import ReferenceFeatures
from totalanvi.serving.mapped import MapOptions
from totalanvi.serving.mapping.scorer import ScoredBlock
from totalanvi.serving.outputs.label_names import label_names

__all__ = ["CellCounts"]


class CellCounts:
    """Counts labels, unknown cells and those with proteins, block by block.

    Parameters
    ----------
    features
        Names the labels.
    options
        Say from which novelty on a cell is unknown.

    Examples
    --------
    >>> counts = CellCounts(reference.features, MapOptions())  # doctest: +SKIP
    >>> counts.add(block)  # doctest: +SKIP
    >>> counts.labels()  # doctest: +SKIP
    {'NK': 120, 'unknown': 3}
    """

    def __init__(self, features: ReferenceFeatures, options: MapOptions) -> None:
        self._names = label_names(features)
        self._threshold = options.novelty_threshold
        self._counts: Counter[int] = Counter()
        self.n_unknown = 0
        """Cells more novel than cells like the reference's are, whatever label they keep."""
        self.n_with_proteins = 0
        """Cells that were mapped with proteins that were measured."""

    def add(self, block: ScoredBlock) -> None:
        """Count a block of cells; those that could not be mapped have no label."""
        mapped = block.mapped
        self._counts.update(mapped.label[mapped.label >= 0].tolist())
        self.n_unknown += int((mapped.novelty > self._threshold).sum())
        self.n_with_proteins += block.n_with_proteins

    def labels(self) -> dict[str, int]:
        """Return the number of cells of each label, most frequent first."""
        return {self._names[label]: n_cells for label, n_cells in self._counts.most_common()}
