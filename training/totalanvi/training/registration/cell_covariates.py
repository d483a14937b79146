"""The covariates and the size factor of cells, as columns give them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from totalanvi.training.errors import RegistrationError
from totalanvi.training.registration.codes import codes_of, names_of
from totalanvi.training.registration.columns import COLUMN_ARGUMENTS, Columns
from totalanvi.training.registration.setup_note import Setup

__all__ = ["Categories", "CellCovariates", "covariate_categories", "read_covariates", "warn_of_large_covariates"]

_LARGEST = 100.0
"""Percentages are well enough; from thousands on, what is decoded overflows."""

Categories = tuple[tuple[str, tuple[str, ...]], ...]
"""Name and categories, in the order of their codes, of each categorical covariate."""


class CellCovariates(NamedTuple):
    """What columns say of cells beside batch, panel and label."""

    categorical: npt.NDArray[np.int64]
    """Codes, (cells, covariates)."""
    continuous: npt.NDArray[np.float32]
    """Values as the columns give them, (cells, covariates)."""
    size_factor: npt.NDArray[np.float32]
    """(cells, 1), above 0; (cells, 0) where there is none."""


def covariate_categories(columns: Columns, setup: Setup) -> Categories:
    """Categories of a reference's categorical covariates.

    Raises
    ------
    RegistrationError
        When a column is not there, or lacks a value.
    """
    argument = "categorical_covariate_keys"
    return tuple((key, names_of(columns, argument, key)) for key in setup.categorical_covariate_keys)


def read_covariates(columns: Columns, setup: Setup, categories: Categories) -> CellCovariates:
    """Covariates and size factor of cells.

    Parameters
    ----------
    columns
        Columns of the cells.
    setup
        Which of them to read.
    categories
        Categories that the model knows.

    Raises
    ------
    RegistrationError
        When a column is not there; when a cell has no value, one of an unknown category, one that is no finite number,
        or a size factor that is not above 0.
    """
    argument = "categorical_covariate_keys"
    codes = [codes_of(columns, argument, key, names) for key, names in categories]
    values = [_numbers(columns, "continuous_covariate_keys", key) for key in setup.continuous_covariate_keys]
    factors = [] if setup.size_factor_key is None else [_size_factor(columns, setup.size_factor_key)]
    n_cells = len(columns.cells)
    return CellCovariates(
        np.stack(codes, axis=1) if codes else np.empty((n_cells, 0), np.int64),
        np.stack(values, axis=1) if values else np.empty((n_cells, 0), np.float32),
        np.stack(factors, axis=1) if factors else np.empty((n_cells, 0), np.float32),
    )


def warn_of_large_covariates(names: Sequence[str], values: npt.NDArray[np.float32]) -> None:
    """Warn, when a model is made, of continuous covariates that were not scaled: they go into the network as they are.

    Parameters
    ----------
    names
        Names of the covariates.
    values
        What cells have, (cells, covariates).
    """
    for name, largest in zip(names, np.abs(values).max(axis=0), strict=True):
        if largest > _LARGEST:
            warnings.warn(
                f"The continuous covariate {name!r} has values as large as {largest:g}, which may make results "
                f"infinite or NaN. Scale it to values around 1 first: obs[{name!r}] = (x - x.mean()) / x.std(), for "
                f"example, where x is obs[{name!r}], or its logarithm.",
                UserWarning,
                stacklevel=2,
            )


def _size_factor(columns: Columns, key: str) -> npt.NDArray[np.float32]:
    values = _numbers(columns, "size_factor_key", key)
    if (values <= 0).any():
        cell = int(np.argmax(values <= 0))
        raise RegistrationError(
            f"Expected size factors above 0 in obs[{key!r}], found {values[cell]:g} for cell {columns.cells[cell]!r}; "
            "compute them anew, or leave these cells out."
        )
    return values


def _numbers(columns: Columns, argument: str, key: str) -> npt.NDArray[np.float32]:
    column = columns.require_complete(key, argument)
    if not pd.api.types.is_any_real_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
        raise RegistrationError(
            f"Expected numbers in the {COLUMN_ARGUMENTS[argument]} obs[{key!r}], found values of type {column.dtype}; "
            f"convert them, with obs[{key!r}].astype(float) for example."
        )
    with np.errstate(over="ignore"):
        values: npt.NDArray[np.float32] = column.to_numpy(dtype=np.float64).astype(np.float32)
    if not np.isfinite(values).all():
        cell = int(np.argmin(np.isfinite(values)))
        raise RegistrationError(
            f"Expected finite numbers in the {COLUMN_ARGUMENTS[argument]} obs[{key!r}], found {column.iloc[cell]} for "
            f"cell {columns.cells[cell]!r}; replace it, or leave the cell out."
        )
    return values
