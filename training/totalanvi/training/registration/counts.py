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

__all__ = ["as_count_rows", "require_counts", "require_unique"]


def as_count_rows(matrix: Any, where: str, cells: pd.Index, features: pd.Index) -> sp.csr_matrix:
    """Raw counts as canonical float32 CSR rows.

    Parameters
    ----------
    matrix
        Dense or sparse, (cells, features).
    where
        Where it was found, for messages: ``"X"``, ``"layers['counts']"``.
    cells, features
        Names, for messages.

    Raises
    ------
    CountsError
        For values that are negative, fractional, NaN or infinite.
    """
    rows = sp.csr_matrix(readable(matrix, where))
    offender = _offender(rows.data)
    if offender is not None:
        row = int(np.searchsorted(rows.indptr, offender, side="right")) - 1
        _refuse(float(rows.data[offender]), where, cells[row], features[rows.indices[offender]])
    rows = rows.astype(np.float32)
    rows.sum_duplicates()
    rows.eliminate_zeros()
    return rows


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
