"""How the queries of a job are mapped and written: all that its results depend on, besides reference and queries."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from totalanvi.serving.mapped import MapOptions
from totalanvi.serving.mapping.scorer import DEFAULT_BATCH_SIZE

__all__ = ["DEFAULT_PART_CELLS", "How"]

DEFAULT_PART_CELLS = 65_536
"""Cells in a part: some seconds of work, which is what an interruption may cost, and files that are not too many."""


@dataclass(frozen=True)
class How:
    """How the queries of a job are mapped and written.

    Parameters
    ----------
    options
        How to map.
    proteins, layer, gene_column
        See `totalanvi.serving.mapping.mapping.map_file`.
    meanings
        What features of the queries are called in the reference, see
        `totalanvi.serving.alignment.feature_map.read_feature_map`.
    batch_size
        Cells that are read and scored together; a part's table has a row group for each.
    part_cells
        Cells in a part.
    copies
        Whether each query becomes an annotated copy of itself, in one piece, instead of parts of a table.
    """

    options: MapOptions = field(default_factory=MapOptions)
    proteins: str | None = None
    layer: str | None = None
    gene_column: str | None = None
    meanings: dict[str, str] = field(default_factory=dict)
    batch_size: int = DEFAULT_BATCH_SIZE
    part_cells: int = DEFAULT_PART_CELLS
    copies: bool = False

    def ranges(self, n_cells: int) -> list[range]:
        """Return the rows of each part of a query with so many cells.

        Examples
        --------
        >>> How(part_cells=4).ranges(10)
        [range(0, 4), range(4, 8), range(8, 10)]
        """
        size = n_cells if self.copies else self.part_cells
        return [range(start, min(start + size, n_cells)) for start in range(0, n_cells, size)]

    def as_dict(self) -> dict[str, Any]:
        """Return all of it by name, as JSON-able values; what copies do not depend on is left out of theirs."""
        values = self.options.as_dict() | {
            "proteins": self.proteins,
            "layer": self.layer,
            "gene_column": self.gene_column,
            "feature_map": dict(sorted(self.meanings.items())),
            "copies": self.copies,
        }
        if self.copies:
            return values
        return values | {"batch_size": self.batch_size, "part_cells": self.part_cells}
