"""Who is compared with whom: two masks of cells a comparison. The user's object is only read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from totalanvi.training.checks import require_texts
from totalanvi.training.errors import ArgumentError, listed
from totalanvi.training.positions import positions_of

__all__ = ["Comparison", "Selection", "compare_groups", "compare_selections", "selected"]

Mask: TypeAlias = npt.NDArray[np.bool_]
Selection: TypeAlias = Sequence[int] | Sequence[bool] | npt.NDArray[Any] | str
"""Cells: their positions, a mask of all cells, or a query of the columns of obs."""


@dataclass(frozen=True)
class Comparison:
    """Two groups of cells."""

    first: Mask
    """Whether each cell is of the first group, (cells,)."""
    second: Mask
    names: tuple[Any, Any] | None = None
    """What the groups are called; `None` where positions or queries chose them."""


def selected(chosen: Selection, obs: pd.DataFrame, argument: str) -> Mask:
    """Mask, (cells,), of the cells that positions, a mask or a query choose.

    Raises
    ------
    ArgumentError
        Naming the argument.
    """
    if isinstance(chosen, str):
        return _queried(chosen, obs, argument)
    mask = np.zeros(len(obs), dtype=bool)
    mask[positions_of(chosen, len(obs), argument)] = True
    return mask


def _queried(query: str, obs: pd.DataFrame, argument: str) -> Mask:
    try:
        # Not obs.query, which gives names of cells, that may be repeated.
        found = pd.Series(obs.eval(query))
        if len(found) != len(obs) or not pd.api.types.is_bool_dtype(found):
            raise TypeError("it is not true or false of each cell")
    except (AttributeError, KeyError, NameError, SyntaxError, TypeError, ValueError) as error:
        raise ArgumentError(
            f"{argument}: expected a condition on columns of obs, as pandas.DataFrame.query takes it, found {query!r} "
            f"({error}); mend it, or give a mask."
        ) from error
    return found.fillna(False).to_numpy(dtype=bool)


def compare_selections(
    obs: pd.DataFrame, idx1: Selection, idx2: Selection | None, within: Mask | None
) -> list[Comparison]:
    """One comparison, of chosen cells with others: by default with all others.

    Raises
    ------
    ArgumentError
        When a group has no cells, or a cell is in both.
    """
    first = selected(idx1, obs, "idx1")
    second = ~first if idx2 is None else selected(idx2, obs, "idx2")
    shared = int((first & second).sum())
    if shared:
        raise ArgumentError(
            f"idx1, idx2: expected groups without common cells, found {shared} in both; leave them out of one."
        )
    if within is not None:
        first, second = first & within, second & within
    for mask, argument in ((first, "idx1"), (second, "the rest of the cells" if idx2 is None else "idx2")):
        if not mask.any():
            raise ArgumentError(f"{argument}: expected cells, found none; look at what chose them.")
    return [Comparison(first, second)]


def compare_groups(
    obs: pd.DataFrame, groupby: str, group1: Any | Iterable[Any] | None, group2: Any | None, within: Mask | None
) -> list[Comparison]:
    """A comparison of each group of ``group1`` (by default, of every group) with ``group2``, or else with the rest.

    Raises
    ------
    ArgumentError
        When the column or a group is unknown, has no cells, or there is nothing to compare it with.
    """
    groups = _Groups(obs, groupby, within)
    if len(groups.names) < 2:
        raise ArgumentError(
            f"groupby: expected two groups or more in obs[{groupby!r}], found {groups}; name another column."
        )
    if group1 is None:
        firsts = [name for name in groups.names if name != group2]
    else:
        firsts = [group1] if isinstance(group1, str) or not isinstance(group1, Iterable) else list(group1)
    if not firsts:
        raise ArgumentError("group1: expected a group or more, found an empty list; name one, or leave it out.")
    return [_comparison(groups, first, group2) for first in firsts]


def _comparison(groups: _Groups, group1: Any, group2: Any | None) -> Comparison:
    first = groups.mask(group1, "group1")
    if group2 is None:
        return Comparison(first, groups.within & ~first, (group1, "Rest"))
    second = groups.mask(group2, "group2")
    if (first & second).any():
        raise ArgumentError(f"group1, group2: expected two groups, found {group1!r} twice; name another.")
    return Comparison(first, second, (group1, group2))


class _Groups:
    """The groups of a column that have cells, and their cells."""

    def __init__(self, obs: pd.DataFrame, groupby: str, within: Mask | None):
        require_texts(groupby=groupby)
        if groupby not in obs:
            raise ArgumentError(
                f"groupby: expected a column of obs ({listed(obs.columns)}), found {groupby!r}; name one of them."
            )
        self.within = np.ones(len(obs), dtype=bool) if within is None else within
        column = obs[groupby].astype("category").cat
        self.column = groupby
        self.categories = column.categories
        self.codes = column.codes.to_numpy()
        counts = np.bincount(self.codes[self.within & (self.codes >= 0)], minlength=len(self.categories))
        self.names = self.categories[counts > 0].tolist()

    def mask(self, name: Any, argument: str) -> Mask:
        """Cells of a group, (cells,)."""
        code = self.categories.get_indexer(pd.Index([name]))[0] if pd.api.types.is_scalar(name) else -1
        mask = self.within & (self.codes == code)
        if code < 0 or not mask.any():
            raise ArgumentError(
                f"{argument}: expected a group with cells in obs[{self.column!r}] ({self}), found {name!r}; name one "
                "of them."
            )
        return np.asarray(mask)

    def __str__(self) -> str:
        return listed(map(repr, self.names))
