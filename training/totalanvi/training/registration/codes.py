"""From the values of a column to names and codes: batches, panels, categories of covariates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from totalanvi.training.errors import ArgumentError, RegistrationError, listed
from totalanvi.training.registration.columns import COLUMN_ARGUMENTS, Columns

__all__ = ["Batches", "added_names", "as_values", "codes_of", "codes_of_batches", "names_of", "texts"]

Batches: TypeAlias = str | int | Iterable[str | int]
"""One batch or several, by name, or by code where no batch has that name."""

_ONE_GROUP = ("0",)
"""The only batch where no column tells batches apart."""
_RENAME = "rename them, or leave these cells out"
_ADAPT = "adapt the model with load_query_data, or map new {} through an exported bundle"
_CURES = {"batch_key": _ADAPT.format("batches"), "panel_key": _ADAPT.format("panels")}


def as_values(category: object) -> tuple[str, ...]:
    """Value or values ("not labelled", for one) as strings, the form in which categories are compared."""
    if category is None:
        return ()
    if isinstance(category, Iterable) and not isinstance(category, str):
        return tuple(_as_text(value) for value in category)
    return (_as_text(category),)


def texts(column: pd.Series) -> npt.NDArray[np.object_]:
    """Values of a column as strings, (cells,), `None` where one is missing.

    Raises
    ------
    RegistrationError
        When two values are the same string, as 1 and "1" are: nobody can say whether they are one; when values are no
        plain ones, but lists for example.
    """
    try:
        codes, values = pd.factorize(column)
    except TypeError as error:
        raise RegistrationError(
            f"Expected one plain value for each cell in obs[{column.name!r}], found others ({error}); write texts or "
            "numbers there."
        ) from error
    names: npt.NDArray[np.object_] = np.array([*(_as_text(value) for value in values), None], dtype=object)
    twice = np.flatnonzero(pd.Index(names).duplicated())
    if len(twice):
        alike = [repr(value) for value, name in zip(values, names, strict=False) if name == names[twice[0]]]
        raise RegistrationError(
            f"Expected values of one type in obs[{column.name!r}], found {' and '.join(alike)}, which are one when "
            f"written out; rename one of them if they differ, or convert all (obs[{column.name!r}].astype(str))."
        )
    return names[codes]  # a missing value has code -1, the last


def names_of(columns: Columns, argument: str, key: str | None) -> tuple[str, ...]:
    """Names in the order of their codes, sorted; one name where there is no ``key``.

    Raises
    ------
    RegistrationError
        When the column is not there, or lacks a value.
    """
    return _ONE_GROUP if key is None else tuple(sorted(set(texts(columns.require_complete(key, argument)))))


def added_names(columns: Columns, argument: str, key: str | None, known: Sequence[str]) -> tuple[str, ...]:
    """``known`` and, after them, the names that the column adds.

    Raises
    ------
    RegistrationError
        When the column is not there, or lacks a value.
    """
    return (*known, *(name for name in names_of(columns, argument, key) if name not in known))


def codes_of(columns: Columns, argument: str, key: str | None, names: Sequence[str]) -> npt.NDArray[np.int64]:
    """Codes of the cells among ``names``, (cells,).

    Raises
    ------
    RegistrationError
        When the column is not there, lacks a value, or has one that is not among ``names``.
    """
    if key is None:
        return np.zeros(len(columns.cells), np.int64)
    values = texts(columns.require_complete(key, argument))
    codes = pd.Index(list(names)).get_indexer(pd.Index(values, dtype=object)).astype(np.int64)
    if (codes < 0).any():
        raise RegistrationError(
            f"Expected {COLUMN_ARGUMENTS[argument]} values that the model knows ({listed(names)}), found "
            f"{listed(sorted(set(values[codes < 0])))} in obs[{key!r}]; {_CURES.get(argument, _RENAME)}."
        )
    return codes


def _as_text(value: object) -> str:
    """The same text for 1 and 1.0: whole numbers become floats wherever a table has gaps."""
    return str(int(value)) if isinstance(value, float | np.floating) and float(value).is_integer() else str(value)


def codes_of_batches(known: Sequence[str], wanted: Batches, argument: str) -> list[int]:
    """Codes of batches that a user gives.

    Parameters
    ----------
    known
        The model's batches, by code.
    wanted
        One or several.
    argument
        What the user calls them, for messages.

    Raises
    ------
    ArgumentError
        For a batch that the model does not know, and for none at all.
    """
    codes = []
    for batch in [wanted] if isinstance(wanted, str) or not isinstance(wanted, Iterable) else wanted:
        if _as_text(batch) in known:
            codes.append(known.index(_as_text(batch)))
        elif isinstance(batch, int | np.integer) and not isinstance(batch, bool) and 0 <= batch < len(known):
            codes.append(int(batch))
        else:
            raise ArgumentError(
                f"{argument}: expected one of the model's batches ({listed(known)}), found {batch!r}; choose one of "
                "them."
            )
    if not codes:
        raise ArgumentError(f"{argument}: expected one batch or more, found an empty list; name one, or leave it out.")
    return codes
