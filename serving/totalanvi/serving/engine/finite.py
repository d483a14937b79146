"""Results have to be finite: what is not is counted while cells are computed, and said once all of them are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.errors import QueryError

__all__ = ["NotFinite"]


@dataclass
class NotFinite:
    """Cells of a query whose results are not finite. Safe to use from several threads.

    Examples
    --------
    >>> NotFinite().note({"latent": np.array([[0.0], [np.nan]])}, start=8)
    False
    """

    _found: list[tuple[str, int, int]] = field(default_factory=list)
    """Of some cells each: the name of the result, how many are not finite, and the first row of these."""

    def note(self, results: Mapping[str, npt.NDArray[np.generic]], start: int) -> bool:
        """Look at the results of some cells, and return whether all of them are finite.

        Parameters
        ----------
        results
            One row per cell, by name.
        start
            The query's row that their first one is.
        """
        broken = {name: array for name, array in results.items() if not np.isfinite(array).all()}
        for name, array in broken.items():
            columns = array.reshape(len(array), math.prod(array.shape[1:]))
            rows = np.flatnonzero(~np.isfinite(columns).all(axis=1))
            self._found.append((name, rows.size, start + int(rows[0])))
        return not broken

    def require_none(self, cells: AlignedCells, order: tuple[str, ...]) -> None:
        """Refuse a query with results that are not finite.

        Parameters
        ----------
        cells
            The query.
        order
            Names of results, each after those that it follows from: the first one is named.

        Raises
        ------
        QueryError
            When there are any.
        """
        if not self._found:
            return
        name = min((name for name, _, _ in self._found), key=order.index)
        of_it = [(n_cells, row) for found, n_cells, row in self._found if found == name]
        first = min(row for _, row in of_it)
        raise QueryError(
            f"Expected finite results, found {name!r} not finite for {sum(n_cells for n_cells, _ in of_it)} of "
            f"{len(cells)} cells, first in row {first} with a total count of {cells.library[first]:g}; check its raw "
            "counts, or leave it out."
        )
