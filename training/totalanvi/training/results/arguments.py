"""Arguments that many results take, checked in one place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real

import numpy as np
import numpy.typing as npt
import pandas as pd

from totalanvi.training.errors import ArgumentError

__all__ = ["DEFAULT_BATCH_SIZE", "at_least_one", "chosen_features", "cells_in_batch"]

DEFAULT_BATCH_SIZE = 256


def cells_in_batch(batch_size: int | None) -> int:
    """Cells in a mini-batch, `DEFAULT_BATCH_SIZE` unless given.

    Raises
    ------
    ArgumentError
        For less than one.
    """
    return DEFAULT_BATCH_SIZE if batch_size is None else at_least_one("batch_size", batch_size)


def at_least_one(name: str, value: int) -> int:
    """Return ``value`` when it is a whole number of one or more.

    Raises
    ------
    ArgumentError
        Naming the argument.
    """
    if not isinstance(value, Real) or not math.isfinite(value) or value != int(value) or value < 1:
        raise ArgumentError(f"{name}: expected a whole number of at least 1, found {value}; give such a number.")
    return int(value)


def chosen_features(names: Sequence[str] | None, known: Sequence[str], what: str) -> npt.NDArray[np.intp]:
    """Positions of features by name, in the order given; all for `None`.

    Raises
    ------
    ArgumentError
        Naming those that the model does not know.
    """
    if names is None:
        return np.arange(len(known))
    if isinstance(names, str):
        raise ArgumentError(f"{what}_list: expected several names, found the text {names!r}; put it into a list.")
    positions = pd.Index(known).get_indexer(pd.Index(list(names), dtype=object))
    if (positions < 0).any():
        unknown = [name for name, position in zip(names, positions, strict=True) if position < 0]
        raise ArgumentError(
            f"{what}_list: expected {what}s of the model, found {', '.join(map(repr, unknown[:5]))}; "
            f"`registry.{what}s` names them all."
        )
    return positions
