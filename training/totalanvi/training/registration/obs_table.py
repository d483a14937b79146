"""Columns that describe cells, from a table beside a file that has none: cell types of a 10x matrix, say."""

from __future__ import annotations

import warnings
import zlib
from pathlib import Path
from typing import Literal

import pandas as pd
from anndata import AnnData
from mudata import MuData

from totalanvi.training.errors import RegistrationError, listed

__all__ = ["join_obs", "read_obs_table"]


def read_obs_table(path: Path) -> pd.DataFrame:
    """Read a table of cells: their names in the first column, a row each, under a line of headings.

    Parameters
    ----------
    path
        CSV or TSV, UTF-8; compressed where its name ends in ``.gz``.

    Returns
    -------
    pandas.DataFrame
        (cells of the table, columns); numbers where a column holds nothing else, and missing where nothing stands. A
        number that begins with zeros, such as 01, is a name.

    Raises
    ------
    RegistrationError
        When it cannot be read, has no column beside the names, or a name is missing or repeated.

    Examples
    --------
    >>> read_obs_table(Path("labels.csv"))  # doctest: +SKIP
    """
    compression: Literal["gzip"] | None = "gzip" if path.suffix == ".gz" else None

    def read(delimiter: str, n_rows: int | None = None) -> pd.DataFrame:
        return pd.read_csv(path, sep=delimiter, nrows=n_rows, dtype=str, compression=compression, encoding="utf-8-sig")

    try:
        table = read("\t" if any("\t" in name for name in read(",", 0).columns) else ",")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise RegistrationError(
            f"Expected a table of cells (CSV or TSV, UTF-8) at {path}, found that it cannot be read "
            f"({' '.join(str(error).split())}); check the path, and that every line has as many columns as the first."
        ) from error
    if isinstance(table.index, pd.RangeIndex) and len(table.columns):
        # Without a heading above the names, as R writes tables, pandas has made them the index already.
        table = table.set_index(table.columns[0])
    if not len(table.columns) or not len(table):
        raise RegistrationError(
            f"Expected a table of cells in {path}, their names in the first column and something of them in others, "
            f"found {len(table)} rows with {len(table.columns)} columns beside the names; separate columns by commas "
            "or tabs."
        )
    unclear = table.index[table.index.isna() | table.index.duplicated()]
    if len(unclear):
        what = "a row without a name" if pd.isna(unclear[0]) else f"{unclear[0]!r} twice"
        raise RegistrationError(f"Expected each cell once in {path}, found {what}; remove one of its rows.")
    return table.apply(_numbers_if_all_are)


def join_obs(data: AnnData | MuData, table: pd.DataFrame) -> None:
    """Add the columns of a table of cells to ``obs``, by the names of the cells.

    Parameters
    ----------
    data
        Changed in place: its ``obs``, of a MuData that of the whole object.
    table
        (cells of the table, columns); cells that `data` lacks are left aside.

    Raises
    ------
    RegistrationError
        When no cell is in both, or ``obs`` has a column of a name already.

    Warns
    -----
    UserWarning
        When cells are not in the table: values are missing for them.
    """
    tables = [data.obs, *(part.obs for part in data.mod.values())] if isinstance(data, MuData) else [data.obs]
    if taken := [name for name in table.columns if any(name in obs.columns for obs in tables)]:
        raise RegistrationError(
            f"Expected columns that the reference lacks in the table of cells, found {listed(taken)} in both; leave "
            "them out of one, or rename them."
        )
    known = data.obs_names.isin(table.index)
    if not known.any():
        raise RegistrationError(
            f"Expected the names of the reference's cells, such as {str(next(iter(data.obs_names), ''))!r}, in the "
            f"first column of the table of cells, found none of them, but {str(table.index[0])!r}; name cells as the "
            "reference does."
        )
    if n_unknown := int((~known).sum()):
        warnings.warn(
            f"{n_unknown} of {len(known)} cells are not in the table of cells: nothing is known of them there.",
            UserWarning,
            stacklevel=2,
        )
    for name in table.columns:
        data.obs[name] = table[name].reindex(data.obs_names).to_numpy()


def _numbers_if_all_are(column: pd.Series) -> pd.Series:
    numbers = pd.to_numeric(column, errors="coerce")
    is_code = column.str.match(r"[+-]?0\d", na=False)
    return numbers if numbers.notna().equals(column.notna()) and not is_code.any() else column
