"""Cells by position: those that an argument chooses, and whether they are still where they were."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from totalanvi.training.errors import ArgumentError

__all__ = ["cells_moved", "positions_of"]


def positions_of(chosen: npt.ArrayLike, n_cells: int, argument: str) -> npt.NDArray[np.intp]:
    """Positions of the chosen cells, in the order given, (chosen,).

    Parameters
    ----------
    chosen
        Positions from 0, or a mask, (cells,).
    n_cells
        Number of all cells.
    argument
        Its name, for messages.

    Raises
    ------
    ArgumentError
        For values that are neither, or not in one list; for a mask of another length, or positions that no cell has.

    Examples
    --------
    >>> positions_of([False, True, True], 3, "indices")
    array([1, 2])
    """
    try:
        given = np.asarray(chosen)
    except ValueError:  # lists of several lengths in a list
        given = np.asarray(chosen, dtype=object)
    if given.size and given.dtype.kind not in "biu":
        raise ArgumentError(
            f"{argument}: expected positions of cells, or a mask of all {n_cells}, found values of type {given.dtype}; "
            "look up the positions (obs_names.get_indexer)."
        )
    if given.ndim != 1:
        raise ArgumentError(
            f"{argument}: expected one list of cells, found an array of shape {given.shape}; ravel() makes it one."
        )
    if given.dtype == bool:
        if len(given) != n_cells:
            raise ArgumentError(
                f"{argument}: expected a mask of the {n_cells} cells, found one of {len(given)}; make it anew."
            )
        return np.flatnonzero(given)
    positions = given.astype(np.intp)
    outside = positions[(positions < 0) | (positions >= n_cells)]
    if len(outside):
        # Not the last cell, as to NumPy: get_indexer says -1 of a name that is not there.
        raise ArgumentError(f"{argument}: expected 0 to {n_cells - 1}, found {outside[0]}; leave it out.")
    return positions


def cells_moved(before: pd.Index, now: pd.Index) -> bool:
    """Whether cells were left out, added or moved; one that was merely renamed is where it was.

    Parameters
    ----------
    before, now
        Names of the cells, then and now.

    Examples
    --------
    >>> cells_moved(pd.Index(["a", "b"]), pd.Index(["b", "a"]))
    True
    >>> cells_moved(pd.Index(["a", "b"]), pd.Index(["a", "b-1"]))
    False
    """
    if now is before or now.equals(before):
        return False
    return len(now) != len(before) or bool(now[now != before].isin(before).any())
