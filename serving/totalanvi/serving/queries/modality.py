"""One modality of a query: what its features are called, and where its counts are read from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from totalanvi.formats.feature_types import FEATURE_TYPES, feature_kinds
from totalanvi.serving.errors import QueryError
from totalanvi.serving.queries.matrices import Columns, Matrix, SharedRows, take_rows
from totalanvi.serving.queries.names import require_unique_cells
from totalanvi.serving.queries.selection import ProteinTable, choose_place
from totalanvi.serving.queries.tables import Table

__all__ = ["Modality", "positions_in", "protein_modality_of", "rna_modality_of"]


@dataclass(frozen=True, eq=False)
class Modality:
    """One modality of a query: its names, and where its counts are read from."""

    feature_names: tuple[str, ...]
    matrix: Matrix
    where: str
    positions: npt.NDArray[np.intp] | None
    """Row of each of the query's cells in the matrix, -1 where it has none; None when rows and cells are the same."""
    feature_columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What else the query calls its features: columns of ``var`` (features,), by name."""
    proteins: ProteinTable | None = None
    """Proteins that stand among the genes, whose types tell them apart."""

    def read(self, start: int, stop: int) -> tuple[Any, npt.NDArray[np.bool_]]:
        """Return the rows that exist among cells ``start:stop``, and a mask of which cells these are."""
        if self.positions is None:
            return take_rows(self.matrix, np.arange(start, stop)), np.ones(stop - start, dtype=bool)
        positions = self.positions[start:stop]
        present = positions >= 0
        return take_rows(self.matrix, positions[present]), present


def rna_modality_of(table: Table, layer: str | None, positions: npt.NDArray[np.intp] | None) -> Modality:
    """Choose where RNA counts are read from; features that are no genes are set apart.

    Parameters
    ----------
    table
        The AnnData that holds them.
    layer
        See `totalanvi.serving.queries.selection.choose_place`.
    positions
        See `Modality`.

    Raises
    ------
    QueryError
        When no place, or more than one, may hold raw counts, or the one that is named does not exist.
    """
    place = choose_place(table, layer)
    names, columns, matrix = table.feature_names(place), table.feature_columns(place), table.matrix(place)
    kinds = feature_kinds(columns.get(FEATURE_TYPES, ()))
    if kinds is None:
        return Modality(names, matrix, str(place), positions, columns)
    rows = SharedRows(matrix, place)
    proteins = None
    if len(kinds.proteins):
        where = f"{place}, among the genes"
        proteins = ProteinTable(_taken(names, kinds.proteins), Columns(rows, kinds.proteins), where)
    columns = {name: _taken(values, kinds.genes) for name, values in columns.items()}
    return Modality(_taken(names, kinds.genes), Columns(rows, kinds.genes), str(place), positions, columns, proteins)


def protein_modality_of(proteins: ProteinTable, positions: npt.NDArray[np.intp] | None) -> Modality:
    """Read proteins from where they were found; for `positions` see `Modality`."""
    return Modality(proteins.names, proteins.matrix, proteins.where, positions)


def positions_in(cell_ids: pd.Index, table: Table, modality: str) -> npt.NDArray[np.intp]:
    """Return the row of each of a query's cells in one of its modalities (cells,), -1 where it has none.

    Parameters
    ----------
    cell_ids
        Names of the query's cells (cells,).
    table
        The modality.
    modality
        Its name.

    Raises
    ------
    QueryError
        When its cells do not have names of their own, or none is the query's.
    """
    require_unique_cells(table.cell_names, f" of modality {modality!r}")
    positions: npt.NDArray[np.intp] = table.cell_names.get_indexer(cell_ids)
    if len(cell_ids) and not (positions >= 0).any():
        raise QueryError(
            f"Expected cells of the query in modality {modality!r}; found none of the {len(cell_ids)} names there. "
            f"Bring the names in line (mdata.update())."
        )
    return positions


def _taken(values: Sequence[str], positions: npt.NDArray[np.intp]) -> tuple[str, ...]:
    return tuple(values[position] for position in positions.tolist())
