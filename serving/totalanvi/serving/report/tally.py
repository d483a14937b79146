"""What a report needs of a query's cells, gathered block by block: sums and counts, never the cells themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from totalanvi.serving.mapped import MappedCells
from totalanvi.serving.report.sample import MAP_CELLS, CellSample

__all__ = ["BINS", "CellResults", "Tally"]

BINS = 100
"""Steps from 0 to 1 in which confidence and novelty are counted."""

Floats = npt.NDArray[np.float32]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CellResults:
    """What is counted of a block of cells.

    Parameters
    ----------
    label
        Index of the label that was written, the number of labels for unknown, -1 for a cell that was not mapped,
        (cells,).
    confidence, novelty
        (cells,); NaN where not mapped.
    set_size
        Labels in its set, (cells,).
    coordinates
        On the reference's map, (cells, 2); None where these were not kept.
    protein
        Imputed, (cells, proteins); None without any.
    """

    label: npt.NDArray[np.int32]
    confidence: Floats
    novelty: Floats
    set_size: npt.NDArray[np.integer]
    coordinates: Floats | None
    protein: Floats | None

    @classmethod
    def of(cls, mapped: MappedCells) -> CellResults:
        """Take what is counted out of all results."""
        return cls(
            label=mapped.label,
            confidence=mapped.confidence,
            novelty=mapped.novelty,
            set_size=mapped.label_set.sum(axis=1),
            coordinates=mapped.coordinates,
            protein=mapped.protein,
        )


class Tally:
    """Counts over all cells of a query.

    Parameters
    ----------
    n_labels, n_proteins
        Of the reference.
    novelty_threshold
        Novelty beyond which a cell is unknown.
    map_cells
        Most cells to keep for a map.

    Attributes
    ----------
    n_cells, n_unmapped, n_beyond : int
        All cells, those without RNA, and those beyond the threshold, whatever label they keep.
    confidence : numpy.ndarray
        Cells by label, unknown last, and confidence, (labels + 1, `BINS`).
    novelty : numpy.ndarray
        Cells by novelty, (`BINS`,).
    set_sizes : numpy.ndarray
        Cells by the number of labels in their set, (labels + 1,).
    sample : CellSample
        Of places on the map.
    has_coordinates, has_proteins : bool
        Whether the cells had any.
    """

    def __init__(self, n_labels: int, n_proteins: int, novelty_threshold: float, map_cells: int = MAP_CELLS) -> None:
        self.n_cells = self.n_unmapped = self.n_beyond = 0
        self.confidence: Counts = np.zeros((n_labels + 1, BINS), np.int64)
        self.novelty: Counts = np.zeros(BINS, np.int64)
        self.set_sizes: Counts = np.zeros(n_labels + 1, np.int64)
        self.sample = CellSample(map_cells)
        self.has_coordinates = self.has_proteins = False
        self._threshold = novelty_threshold
        self._protein = np.zeros((n_labels + 1, n_proteins))

    def add(self, cells: CellResults) -> None:
        """Count a block of cells, in the query's order."""
        places = np.arange(self.n_cells, self.n_cells + len(cells.label))
        known = np.flatnonzero(cells.label >= 0)
        label = cells.label[known]
        self.n_cells += len(cells.label)
        self.n_unmapped += len(cells.label) - len(known)
        self.n_beyond += int((cells.novelty[known] > self._threshold).sum())
        np.add.at(self.confidence, (label, _bin(cells.confidence[known])), 1)
        self.novelty += np.bincount(_bin(cells.novelty[known]), minlength=BINS)
        self.set_sizes += np.bincount(cells.set_size[known], minlength=len(self.set_sizes))
        if cells.coordinates is not None:
            self.has_coordinates = True
            self.sample.add(places[known], cells.coordinates[known], label)
        if cells.protein is not None:
            self.has_proteins = True
            np.add.at(self._protein, label, np.log1p(np.maximum(cells.protein[known].astype(np.float64), 0)))

    @property
    def n_mapped(self) -> int:
        """Cells with RNA."""
        return self.n_cells - self.n_unmapped

    @property
    def label_cells(self) -> Counts:
        """Cells of each label, unknown last, (labels + 1,)."""
        cells: Counts = self.confidence.sum(axis=1)
        return cells

    @property
    def label_protein(self) -> npt.NDArray[np.float64]:
        """Mean log1p of each imputed protein in each label, unknown last, (labels + 1, proteins); NaN without cells."""
        cells = self.label_cells[:, None]
        return np.where(cells > 0, self._protein / np.maximum(cells, 1), np.nan)

    @property
    def mean_protein(self) -> npt.NDArray[np.float64]:
        """Mean log1p of each imputed protein, (proteins,)."""
        mean: npt.NDArray[np.float64] = self._protein.sum(axis=0) / max(self.n_mapped, 1)
        return mean

    def median_confidence(self, label: int | None = None) -> float:
        """Return the median confidence of a label's cells, or of all, to half a hundredth; NaN without any."""
        counts = self.confidence.sum(axis=0) if label is None else self.confidence[label]
        if not counts.any():
            return float("nan")
        return float((np.searchsorted(np.cumsum(counts), counts.sum() / 2) + 0.5) / BINS)


def _bin(values: Floats) -> npt.NDArray[np.intp]:
    return np.clip((values * BINS).astype(np.intp), 0, BINS - 1)
