"""Raw protein counts, and which of them there are: NaN is no count.

A cell without any, a panel that lacks a protein: an outer join of two data sets leaves NaN there, throughout. NaN here
and there is a mistake of somebody's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from anndata.abc import CSCDataset

from totalanvi.training.errors import CountsError
from totalanvi.training.registration.codes import texts
from totalanvi.training.registration.columns import Columns
from totalanvi.training.registration.counts import require_counts
from totalanvi.training.registration.matrices import readable
from totalanvi.training.registration.setup_note import Setup
from totalanvi.training.registration.stored_rows import is_stored, stored_rows
from totalanvi.training.stored_counts import read_rows

__all__ = ["ProteinCounts", "protein_counts"]


_WINDOW_CELLS = 16_384


class ProteinCounts(NamedTuple):
    """Protein counts of cells."""

    counts: npt.NDArray[np.float32]
    """(cells, proteins); 0 where there is none."""
    recorded: npt.NDArray[np.bool_]
    """Whether there is a count, (cells, proteins)."""

    @classmethod
    def none(cls, n_cells: int) -> ProteinCounts:
        """Those of cells that come with no protein."""
        return cls(np.zeros((n_cells, 0), np.float32), np.zeros((n_cells, 0), bool))

    def of_proteins(self, positions: npt.NDArray[np.intp]) -> ProteinCounts:
        """Proteins by position, in the order given; one at −1 has no count."""
        there = positions >= 0
        shape = (len(self.counts), len(positions))
        counts, recorded = np.zeros(shape, np.float32), np.zeros(shape, bool)
        counts[:, there] = self.counts[:, positions[there]]
        recorded[:, there] = self.recorded[:, positions[there]]
        return ProteinCounts(counts, recorded)


def protein_counts(
    matrix: Any, where: str, cells: pd.Index, proteins: pd.Index, columns: Columns, setup: Setup
) -> ProteinCounts:
    """Take a table of raw counts for the cells of ``columns``; those that it does not name have none.

    Parameters
    ----------
    matrix
        Dense or sparse, (named cells, proteins).
    where
        Where it was found, for messages.
    cells, proteins
        Names of its rows and columns.
    columns
        Columns of the cells wanted.
    setup
        Which of them tells panels, or else batches.

    Raises
    ------
    CountsError
        For values that are negative, fractional or infinite; for NaN, unless a cell has it for all proteins, or a panel
        for all of its cells that have any count.
    """
    dense = _dense(matrix, where, cells, proteins)
    if not cells.equals(columns.cells):
        dense = _of_cells(dense, cells, columns.cells)
    recorded = ~np.isnan(dense)
    if not recorded.all():
        _require_whole_panels(recorded, where, columns, proteins, setup)
        dense[~recorded] = 0.0
    return ProteinCounts(dense, recorded)


def _dense(matrix: Any, where: str, cells: pd.Index, proteins: pd.Index) -> npt.NDArray[np.float32]:
    """Take counts as a dense array, (cells, proteins), through a window: of a million cells, a copy is no trifle."""
    if isinstance(matrix, CSCDataset):
        matrix = matrix.to_memory()
    stored = stored_rows(matrix, where) if is_stored(matrix) else None
    if stored is None and not isinstance(matrix, pd.DataFrame):
        matrix = readable(matrix, where)
    dense = np.empty(matrix.shape, np.float32)
    for start in range(0, len(dense), _WINDOW_CELLS):
        stop = min(start + _WINDOW_CELLS, len(dense))
        if stored is not None:
            rows = read_rows(stored, where, start, stop)
        else:
            rows = readable(matrix.iloc[start:stop], where) if isinstance(matrix, pd.DataFrame) else matrix[start:stop]
        dense[start:stop] = rows if isinstance(rows, np.ndarray) else rows.toarray()
        require_counts(dense[start:stop].ravel(), dense.shape[1], where, cells[start:stop], proteins, may_lack=True)
    return dense


def _of_cells(dense: npt.NDArray[np.float32], cells: pd.Index, wanted: pd.Index) -> npt.NDArray[np.float32]:
    """Rows of the wanted cells, NaN for those that are not there."""
    positions = cells.get_indexer(wanted)
    rows = np.full((len(wanted), dense.shape[1]), np.nan, np.float32)
    rows[positions >= 0] = dense[positions[positions >= 0]]
    return rows


def _require_whole_panels(
    recorded: npt.NDArray[np.bool_], where: str, columns: Columns, proteins: pd.Index, setup: Setup
) -> None:
    argument = "batch_key" if setup.panel_key is None else "panel_key"
    key = setup.batch_key if setup.panel_key is None else setup.panel_key
    column = None if key is None else columns.find(key, argument)
    group = np.zeros(len(recorded), np.intp) if column is None else pd.factorize(texts(column))[0]
    some = recorded.any(axis=1)
    for code in np.unique(group[some]):
        members = np.flatnonzero(some & (group == code))
        there = recorded[members]
        partly = there.any(axis=0) & ~there.all(axis=0)
        if partly.any():
            protein = int(np.argmax(partly))
            cell = members[np.argmin(there[:, protein])]
            alike = "" if column is None else f" of the same {argument.removesuffix('_key')}"
            raise CountsError(
                f"Expected raw counts (whole numbers, 0 or more) in {where}, found nan for feature "
                f"{proteins[protein]!r} in cell {columns.cells[cell]!r}, and counts of it in other cells{alike}; fill "
                "it in, or name the column that tells with which panel a cell was measured (panel_key)."
            )
