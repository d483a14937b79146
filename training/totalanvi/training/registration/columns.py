"""The columns that describe cells: in the ``obs`` of an AnnData, or of whichever part of a MuData holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from anndata import AnnData
from mudata import MuData

from totalanvi.training.errors import MissingKeyError, RegistrationError, listed
from totalanvi.training.registration.counts import require_unique
from totalanvi.training.registration.setup_note import Setup

__all__ = ["COLUMN_ARGUMENTS", "Columns"]

COLUMN_ARGUMENTS = {
    "batch_key": "batch",
    "panel_key": "panel",
    "labels_key": "label",
    "size_factor_key": "size factor",
    "categorical_covariate_keys": "categorical covariate",
    "continuous_covariate_keys": "continuous covariate",
}
"""The arguments of registration that name columns, and what they hold."""

_WHOLE = ""


@dataclass(frozen=True)
class Columns:
    """Columns of the cells that the model sees: those of an AnnData, or of the RNA modality of a MuData."""

    cells: pd.Index
    """Names of the cells, in the order of the columns that are found."""
    tables: Mapping[str, pd.DataFrame]
    """``obs`` of each modality, and of the whole object under ``""``, in the order in which columns are sought."""
    modalities: Mapping[str, str]
    """The modality to look in first for the columns of an argument."""

    @classmethod
    def of(cls, data: AnnData | MuData, setup: Setup) -> Columns:
        """Columns of ``data``.

        A column of a MuData is sought in the ``obs`` of the RNA modality, of the whole object, of the proteins and then
        of the other modalities.
        """
        if not isinstance(data, MuData):
            return cls(data.obs_names, {_WHOLE: data.obs}, {})
        rna = data.mod[setup.rna]
        order = [name for name in dict.fromkeys((setup.proteins, *data.mod)) if name in data.mod and name != setup.rna]
        tables = {setup.rna: rna.obs, _WHOLE: data.obs} | {name: data.mod[name].obs for name in order}
        return cls(rna.obs_names, tables, setup.modalities)

    def find(self, key: str, argument: str | None = None) -> pd.Series | None:
        """Column ``key``, (cells,), or `None` where there is none.

        Parameters
        ----------
        key
            Name of the column. ``"rna:batch"`` is column ``batch`` of modality ``rna``, unless a column has that name.
        argument
            The argument of registration that names it. When ``modalities`` has a modality for it, only that and the
            whole object are searched.
        """
        named = None if argument is None else self.modalities.get(argument)
        for place in self.tables if named is None else (named, _WHOLE):
            if place in self.tables and key in self.tables[place]:
                return self._aligned(place, key)
        modality, _, rest = key.partition(":")
        if modality and rest and modality in self.tables and rest in self.tables[modality]:
            return self._aligned(modality, rest)
        return None

    def table(self) -> pd.DataFrame:
        """All columns side by side, (cells, columns); of columns with one name, the one that `find` takes."""
        if list(self.tables) == [_WHOLE]:
            return self.tables[_WHOLE]
        names = dict.fromkeys(name for table in self.tables.values() for name in table.columns)
        return pd.DataFrame({name: self.find(name) for name in names}, index=self.cells)

    def is_ambiguous(self, key: str, argument: str) -> bool:
        """Whether the whole object has another column of this name than the one that `find` takes."""
        if argument in self.modalities or key not in self.tables[_WHOLE]:
            return False
        found = self.find(key, argument)
        return found is not None and not found.astype(str).equals(self._aligned(_WHOLE, key).astype(str))

    def require(self, key: str, argument: str) -> pd.Series:
        """Column ``key``, (cells,).

        Raises
        ------
        MissingKeyError
            When no part of the data has it.
        """
        column = self.find(key, argument)
        if column is None:
            named = self.modalities.get(argument)
            where = "obs" if named is None else f"mod[{named!r}].obs"
            names = (name for place, table in self.tables.items() if named in (None, place) for name in table.columns)
            raise MissingKeyError(
                f"Expected {where}[{key!r}], found the keys {listed(dict.fromkeys(names))}; name one of them as the "
                f"{COLUMN_ARGUMENTS[argument]}, or add this column (on the command line from a table, --obs)."
            )
        return column

    def require_complete(self, key: str, argument: str) -> pd.Series:
        """Column ``key``, (cells,), with a value for every cell.

        Raises
        ------
        MissingKeyError
            When no part of the data has it.
        RegistrationError
            When cells have none.
        """
        column = self.require(key, argument)
        missing = int(column.isna().sum())
        if missing:
            raise RegistrationError(
                f"Expected a {COLUMN_ARGUMENTS[argument]} for every cell in obs[{key!r}], found {missing} cells without"
                "; fill them in, or leave them out."
            )
        return column

    def _aligned(self, place: str, key: str) -> pd.Series:
        column = self.tables[place][key]
        if isinstance(column, pd.DataFrame):
            raise RegistrationError(
                f"Expected one column {key!r} in obs, found {column.shape[1]} of this name; rename or remove one."
            )
        if column.index.equals(self.cells):
            return column
        require_unique(column.index, "cell")
        return column.reindex(self.cells)
