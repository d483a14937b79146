"""Loops over cells that are compiled by numba, where no library has the operation.

Each compiles in about a third of a second, anew in every process, while the engine opens: numba's own cache is a pickle
on disk, and needs a folder that it may write to. They hold no lock while they run, so that threads share the cores.

`min`, `np.empty`, or a value for a whole array are functions to numba, and compiled by themselves, up to a tenth of a
second each. So loops say `min` as a condition, fill arrays one by one, and are given the room that they need.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from threading import Lock
from typing import Any

__all__ = ["compiled", "given", "room"]


def given(dtype: str, n_axes: int) -> tuple[str, int, bool]:
    """Describe an array that is read, contiguous, by its type and number of axes."""
    return dtype, n_axes, True


def room(dtype: str, n_axes: int) -> tuple[str, int, bool]:
    """Describe an array that is written into."""
    return dtype, n_axes, False


_one_at_a_time = Lock()


def compiled(
    function: Callable[..., Any],
    *arguments: tuple[str, int, bool],
    reorder_sums: bool = False,
    as_written: bool = False,
    made: bool = False,
) -> Callable[..., None]:
    """Compile a function of arrays that returns nothing; once, whichever threads ask for it.

    Parameters
    ----------
    function
        The loops.
    *arguments
        What each array is: `given` or `room`.
    reorder_sums
        Whether a sum along the last axis may be taken in another order: in the same one for every cell, though.
    as_written
        Whether each step is rounded by itself, as NumPy does, rather than a product and its sum together.
    made
        Whether `function` makes the loops, out of others that numba has to know by then.
    """
    # Fused multiply-adds never depend on the company of a cell.
    relaxed = (() if as_written else ("contract",)) + (("reassoc",) if reorder_sums else ())
    with _one_at_a_time:
        return _compiled(function, arguments, relaxed, made)


@cache
def _compiled(
    function: Callable[..., Any], arguments: tuple[tuple[str, int, bool], ...], relaxed: tuple[str, ...], made: bool
) -> Callable[..., None]:
    from numba import njit, types

    arrays = [types.Array(getattr(types, dtype), n_axes, "C", readonly=read) for dtype, n_axes, read in arguments]
    loops = function() if made else function
    machine_code: Callable[..., None] = njit(types.void(*arrays), nogil=True, fastmath=set(relaxed))(loops)
    return machine_code
