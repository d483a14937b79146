"""Matrices as AnnData keeps them, brought into a form whose entries can be followed without harm."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from totalanvi.formats.counts_place import computable
from totalanvi.training.errors import CountsError, RegistrationError

__all__ = ["readable"]


def readable(matrix: Any, where: str) -> npt.NDArray[Any] | sp.csr_matrix:
    """Take a matrix of numbers, whatever holds it.

    Parameters
    ----------
    matrix
        Array, DataFrame or sparse matrix in memory, (cells, features).
    where
        Where it was found, for messages.

    Returns
    -------
    numpy.ndarray or scipy.sparse.csr_matrix
        Sparse when the matrix was.

    Raises
    ------
    RegistrationError
        When there is no matrix.
    CountsError
        When it is no table, its values are no real numbers, or its sparse structure is damaged.
    """
    if matrix is None:
        raise RegistrationError(f"Expected counts in {where}, found nothing there; name the layer that holds them.")
    if sp.issparse(matrix):
        return _rows(matrix, where)
    if isinstance(matrix, pd.DataFrame):
        _require_no_texts(matrix, where)
    try:
        # Columns that are not all of one type come out of a DataFrame as objects.
        values = matrix.to_numpy(dtype=np.float64, na_value=np.nan) if isinstance(matrix, pd.DataFrame) else matrix[...]
    except (TypeError, ValueError) as error:
        raise CountsError(
            f"Expected numbers in {where}, found values that are none ({error}); keep the columns with counts only."
        ) from error
    if values.ndim != 2:
        raise CountsError(
            f"Expected a table of cells × features in {where}, found an array of shape {values.shape}; give one."
        )
    _require_numbers(values.dtype, where)
    return np.asarray(computable(values))


def _require_no_texts(table: pd.DataFrame, where: str) -> None:
    """Refuse columns of texts, even of digits: whatever wrote them did not know them to be counts."""
    others = [position for position, dtype in enumerate(table.dtypes) if not pd.api.types.is_numeric_dtype(dtype)]
    for position in others:
        text = next((value for value in table.iloc[:, position] if isinstance(value, str | bytes)), None)
        if text is not None:
            raise CountsError(
                f"Expected numbers in {where}, found the text {text!r} in its column {table.columns[position]!r}; keep "
                "columns with counts only, and convert those that are counts (astype(float))."
            )


def _rows(matrix: Any, where: str) -> sp.csr_matrix:
    _require_numbers(matrix.dtype, where)
    if hasattr(matrix, "check_format"):
        try:
            # Before any compiled routine follows the indices: wrong ones of a damaged file end the process.
            matrix.check_format(full_check=True)
        except ValueError as error:
            raise CountsError(
                f"Expected a valid sparse matrix in {where}, found a damaged one ({error}); write the reference again."
            ) from error
    return sp.csr_matrix(matrix)


def _require_numbers(dtype: np.dtype[Any], where: str) -> None:
    if dtype.kind not in "buif":
        raise CountsError(
            f"Expected numbers in {where}, found values of type {dtype}; name the layer that holds raw counts."
        )
