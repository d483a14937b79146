"""How many cells an output holds results of, and how many of these had proteins: what warnings of it are made from."""

from __future__ import annotations

from dataclasses import dataclass

from totalanvi.serving.mapped import MappedCells

__all__ = ["WrittenCells"]


@dataclass
class WrittenCells:
    """Counts cells while they are written.

    Parameters
    ----------
    n_mapped
        Cells that could be mapped.
    n_with_proteins
        How many of these were mapped with proteins that were measured.

    Examples
    --------
    >>> WrittenCells(20, 12).as_dict()
    {'mapped': 20, 'with_proteins': 12}
    """

    n_mapped: int = 0
    n_with_proteins: int = 0

    def add(self, mapped: MappedCells, n_with_proteins: int) -> None:
        """Count a block of cells; those that could not be mapped have no label."""
        self.n_mapped += int((mapped.label >= 0).sum())
        self.n_with_proteins += n_with_proteins

    def as_dict(self) -> dict[str, int]:
        """Return the counts as outputs keep them, see `totalanvi.serving.report.record.CellsRecord`."""
        return {"mapped": self.n_mapped, "with_proteins": self.n_with_proteins}
