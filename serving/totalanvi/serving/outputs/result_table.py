"""Mapped cells as a table: one row per cell, the same columns and types for every block of every query."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from totalanvi.serving.features import ReferenceFeatures
from totalanvi.serving.mapped import PROTEIN_ARRAYS, MappedCells
from totalanvi.serving.outputs.annotate import (
    CERTAIN,
    CONFIDENCE,
    GUESS,
    LABEL,
    LABEL_SET,
    NOVELTY,
    UNS_KEY,
)
from totalanvi.serving.outputs.label_names import certain_names, label_names, label_sets

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["CELLS_KEY", "MAP_COLUMNS", "NAME_COLUMNS", "result_table"]

MAP_COLUMNS = ("map:x", "map:y")
"""Place on the reference's 2-D map."""

CELLS_KEY = "totalanvi_cells"
"""Metadata of a file of tables: its cells, as `totalanvi.serving.outputs.written_cells.WrittenCells` counts them."""

NAME_COLUMNS = [LABEL, GUESS, CERTAIN, LABEL_SET]
"""Columns in which few values come again and again; in no other is a dictionary of them worth the time or the room."""


def result_table(cell_ids: pd.Index, mapped: MappedCells, features: ReferenceFeatures, uns: dict[str, Any]) -> pa.Table:
    """Return one row per cell.

    Parameters
    ----------
    cell_ids
        Names of the cells, (cells,).
    mapped
        Their results; what is missing of a cell that could not be mapped is null.
    features
        Names labels and proteins.
    uns
        Where the results come from, see `totalanvi.serving.outputs.provenance`; kept as JSON in the table's metadata.

    Examples
    --------
    >>> result_table(cell_ids, mapped, reference.features, uns).column_names[:3]  # doctest: +SKIP
    ['cell_id', 'totalanvi_label', 'totalanvi_guess']
    """
    import pyarrow as pa

    def numbers(values: Any) -> pa.Array:
        return pa.array(np.ascontiguousarray(values), type=pa.float32(), from_pandas=True)

    def names(codes: Any, of: list[str]) -> pa.Array:
        indices = pa.array(codes, type=pa.int32(), mask=codes < 0)
        return pa.DictionaryArray.from_arrays(indices, pa.array(of, type=pa.string()))

    labels = list(features.labels)
    columns: dict[str, pa.Array] = {
        "cell_id": pa.array(cell_ids.astype(str), type=pa.string()),
        LABEL: names(mapped.label, label_names(features)),
        GUESS: names(mapped.guess, labels),
    }
    if features.parents:
        columns[CERTAIN] = names(mapped.certain, certain_names(features))
    columns[CONFIDENCE] = numbers(mapped.confidence)
    columns[NOVELTY] = numbers(mapped.novelty)
    codes, sets = label_sets(mapped, features)
    columns[LABEL_SET] = names(codes, sets).cast(pa.string())
    for place, label in enumerate(labels):
        columns[f"probability:{label}"] = numbers(mapped.probabilities[:, place])
    for place, label in enumerate(labels):
        columns[f"set:{label}"] = pa.array(mapped.label_set[:, place], mask=mapped.guess < 0)
    for place, name in enumerate(MAP_COLUMNS):
        columns[name] = numbers(mapped.coordinates[:, place])
    for name in PROTEIN_ARRAYS:
        if (values := getattr(mapped, name)) is not None:
            for place, protein in enumerate(features.proteins):
                columns[f"{name}:{protein}"] = numbers(values[:, place])
    metadata = {UNS_KEY: json.dumps(uns, default=_as_json, allow_nan=False)}
    return pa.table(columns).replace_schema_metadata(metadata)


def _as_json(array: Any) -> list[Any]:
    """Return an array as a list; JSON has no NaN."""
    return [None if value != value else value for value in array.tolist()]
