"""Arrow columns as NumPy arrays and back, refusing every place that has no value."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from totalanvi.serving.errors import QueryError

__all__ = ["list_arrays", "plain_array", "row_array", "row_lists"]


def plain_array(column: pa.Array, name: str, may_be_nan: bool = False) -> npt.NDArray[Any]:
    """Return a column of numbers as an array (rows,), without a copy.

    Raises
    ------
    QueryError
        When a value is null or infinite, or NaN where that is not allowed.
    """
    if column.null_count:
        raise QueryError(f"{name}: expected a value in every place, found null.")
    values: npt.NDArray[Any] = column.to_numpy()
    if values.dtype.kind == "f" and not _all_finite(values, may_be_nan):
        raise QueryError(f"{name}: expected finite values, found NaN or infinity.")
    return values


def _all_finite(values: npt.NDArray[Any], may_be_nan: bool) -> bool:
    finite = np.isfinite(values)
    return bool(finite.all() or (may_be_nan and (finite | np.isnan(values)).all()))


def list_arrays(column: pa.ListArray, name: str) -> tuple[npt.NDArray[np.int32], npt.NDArray[Any]]:
    """Return a column of lists as row pointers (rows + 1,), which start at 0, and values (entries,).

    Raises
    ------
    QueryError
        When a list or a value is null, or a value is NaN or infinite.
    """
    if column.null_count:
        raise QueryError(f"{name}: expected a list for every cell, found null; a cell without counts has an empty one.")
    pointers = column.offsets.to_numpy()
    values = plain_array(column.values.slice(pointers[0], pointers[-1] - pointers[0]), name)
    return pointers - pointers[0], values


def row_array(column: pa.Array, name: str, may_be_nan: bool = False) -> npt.NDArray[Any]:
    """Return a column of numbers as an array (rows,), one of fixed-size lists as an array (rows, width).

    Raises
    ------
    QueryError
        When a place is null or infinite, or NaN where that is not allowed.
    """
    if not pa.types.is_fixed_size_list(column.type):
        return plain_array(column, name, may_be_nan)
    if column.null_count:
        raise QueryError(f"{name}: expected a value for every cell, found null.")
    width = column.type.list_size
    values = column.values.slice(column.offset * width, len(column) * width)
    return plain_array(values, name, may_be_nan).reshape(len(column), width)


def row_lists(
    values: npt.NDArray[Any], absent: npt.NDArray[np.bool_] | None = None, missing: npt.NDArray[np.bool_] | None = None
) -> pa.FixedSizeListArray:
    """Return an array (rows, width) as a column of fixed-size lists.

    Null where `absent` (rows,) says so, and inside of lists where `missing` (rows, width) does.
    """
    n_rows, width = values.shape
    if not width:
        # pyarrow cannot tell the number of rows from no values.
        return pa.array([[]] * n_rows, type=pa.list_(pa.from_numpy_dtype(values.dtype), 0))
    inside = None if missing is None else missing.reshape(-1)
    flat = pa.array(np.ascontiguousarray(values).reshape(-1), mask=inside)
    return pa.FixedSizeListArray.from_arrays(flat, width, mask=None if absent is None else pa.array(absent))
