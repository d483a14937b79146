"""Arguments that many results take, checked in one place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from totalanvi.training.checks import as_names, as_whole
from totalanvi.training.errors import ArgumentError, listed

__all__ = ["DEFAULT_BATCH_SIZE", "chosen_features", "cells_in_batch"]

DEFAULT_BATCH_SIZE = 256


def cells_in_batch(batch_size: int | None) -> int:
    """Cells in a mini-batch, `DEFAULT_BATCH_SIZE` unless given.

    Raises
    ------
    ArgumentError
        For less than one.
    """
    return DEFAULT_BATCH_SIZE if batch_size is None else as_whole("batch_size", batch_size, 1)


def chosen_features(names: Sequence[str] | None, known: Sequence[str], what: str) -> npt.NDArray[np.intp]:
    """Positions of features by name, in the order given; all for `None`.

    Raises
    ------
    ArgumentError
        Naming those that the model does not know.
    """
    if names is None:
        return np.arange(len(known))
    wanted = as_names(f"{what}_list", names, f"{what}s")
    positions = {name: position for position, name in enumerate(known)}
    unknown = [name for name in wanted if not isinstance(name, str) or name not in positions]
    if unknown:
        raise ArgumentError(
            f"{what}_list: expected {what}s of the model, found {listed(map(repr, unknown))}; "
            f"`registry.{what}s` names them all."
        )
    return np.array([positions[name] for name in wanted], dtype=np.intp)
