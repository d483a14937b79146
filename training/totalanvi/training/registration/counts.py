"""Raw counts are a contract: everything else is refused where it enters, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from totalanvi.training.errors import CountsError, RegistrationError
from totalanvi.training.registration.matrices import readable
from totalanvi.training.registration.stored_rows import is_stored, stored_rows
from totalanvi.training.stored_counts import Counts, StoredCounts, StoredRows, canonical, read_rows

__all__ = ["as_count_rows", "require_counts", "require_unique"]


def as_count_rows(matrix: Any, where: str, cells: pd.Index, features: pd.Index) -> Counts:
    """Raw counts as canonical float32 CSR rows; those of a file stay there, once all of them have been looked at.

    Parameters
    ----------
    matrix
        Dense or sparse, in memory or in a file, (cells, features).
    where
        Where it was found, for messages: ``"X"``, ``"layers['counts']"``.
    cells, features
        Names, for messages.

    Raises
    ------
    CountsError
        For values that are negative, fractional, NaN or infinite; for a file that stores them by columns.
    """
    if is_stored(matrix):
        return _seen_through(stored_rows(matrix, where), where, cells, features)
    return _checked(sp.csr_matrix(readable(matrix, where)), where, cells, features)


def _seen_through(stored: StoredRows, where: str, cells: pd.Index, features: pd.Index) -> StoredCounts:
    """Read all rows of a file once, to refuse what is no count and to know it again."""
    lengths, totals = np.zeros(stored.shape[0], np.int32), np.zeros(stored.shape[0], np.float32)
    start = 0
    while start < stored.shape[0]:
        stop = min(stored.stop_of_slab(start), stored.shape[0])
        rows = _checked(read_rows(stored, where, start, stop), where, cells[start:stop], features)
        lengths[start:stop], totals[start:stop] = np.diff(rows.indptr), np.asarray(rows.sum(axis=1)).ravel()
        start = stop
    return StoredCounts(stored, where, lengths, totals)


def _checked(rows: sp.csr_matrix, where: str, cells: pd.Index, features: pd.Index) -> sp.csr_matrix:
    offender = _offender(rows.data)
    if offender is not None:
        row = int(np.searchsorted(rows.indptr, offender, side="right")) - 1
        _refuse(float(rows.data[offender]), where, cells[row], features[rows.indices[offender]])
    return canonical(rows)


def require_counts(
    values: npt.NDArray[Any], n_features: int, where: str, cells: pd.Index, features: pd.Index, may_lack: bool = False
) -> None:
    """Refuse dense values, (cells × features,), that are no raw counts.

    Parameters
    ----------
    values
        The values, row by row.
    n_features
        Features in a row.
    where, cells, features
        As in `as_count_rows`.
    may_lack
        Let NaN pass.

    Raises
    ------
    CountsError
        For values that are negative, fractional or infinite, and for NaN.
    """
    offender = _offender(values, may_lack)
    if offender is not None:
        row, column = divmod(offender, n_features)
        _refuse(float(values[offender]), where, cells[row], features[column])


def _offender(values: npt.NDArray[Any], may_lack: bool = False) -> int | None:
    """Position of the first value that is not a count."""
    with np.errstate(invalid="ignore", over="ignore"):
        # What single precision, in which counts are kept, does not hold becomes infinite there.
        wrong = ~((values >= 0) & (values == np.floor(values)) & np.isfinite(values.astype(np.float32, copy=False)))
    if may_lack:
        wrong &= ~np.isnan(values)
    return int(np.argmax(wrong)) if wrong.any() else None


def _refuse(value: float, where: str, cell: str, feature: str) -> None:
    raise CountsError(
        f"Expected raw counts (whole numbers, 0 or more) in {where}, found {value:g} for feature {feature!r} in cell "
        f"{cell!r}; name the layer that holds raw counts, or undo the normalisation."
    )


def require_unique(names: Sequence[str] | pd.Index, what: str) -> None:
    """Refuse repeated names.

    Raises
    ------
    RegistrationError
        Naming the first few.
    """
    index = pd.Index(names)
    if not index.is_unique:
        repeated = ", ".join(map(repr, index[index.duplicated()].unique()[:3]))
        raise RegistrationError(
            f"Expected unique {what} names, found repeated ones ({repeated}); make them unique, "
            f"with {'obs' if what == 'cell' else 'var'}_names_make_unique() for example."
        )
