"""What mapping wrote of a query, whatever it wrote it into."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from totalanvi.serving.bundles.manifest import UNKNOWN
from totalanvi.serving.errors import QueryError
from totalanvi.serving.report.tally import CellResults

__all__ = ["WINDOW", "StoredResults", "label_codes", "not_mapped"]

WINDOW = 16_384
"""Cells that are read at a time."""


@dataclass(frozen=True)
class StoredResults:
    """Results in an open file.

    Parameters
    ----------
    uns
        Where they come from, as it was written.
    labels, proteins
        The reference's names; no proteins where none were imputed.
    blocks
        Reads the cells, in their order.
    """

    uns: Mapping[str, Any]
    labels: Sequence[str]
    proteins: Sequence[str]
    blocks: Callable[[], Iterator[CellResults]]


def label_codes(names: Sequence[str], labels: Sequence[str]) -> npt.NDArray[np.int32]:
    """Return what labels that a file names are called in a tally, (names + 1,); the last one stands for none.

    Raises
    ------
    QueryError
        When one is not the reference's.
    """
    known = {name: code for code, name in enumerate([*labels, UNKNOWN])}
    strange = [name for name in names if name not in known]
    if strange:
        raise QueryError(
            f"Expected labels of the reference and {UNKNOWN!r}; found the label {strange[0]!r}. Report on what "
            "`totalanvi map` wrote, before labels are renamed."
        )
    return np.array([*(known[name] for name in names), -1], dtype=np.int32)


def not_mapped(path: Path, lacks: str) -> QueryError:
    """Return the error for a file that mapping did not write, or not like this."""
    return QueryError(
        f"Expected what `totalanvi map` wrote in {str(path)!r}; found that it lacks {lacks}. Name the output of a "
        "mapping, or map the query again."
    )
