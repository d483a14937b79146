"""Results in tables with a row for each cell."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from totalanvi.serving.outputs.annotate import CONFIDENCE, LABEL, NOVELTY, UNS_KEY
from totalanvi.serving.outputs.result_table import CELLS_KEY, MAP_COLUMNS
from totalanvi.serving.report.stored_results import WINDOW, StoredResults, label_codes, not_mapped
from totalanvi.serving.report.tally import CellResults

__all__ = ["parquet_results"]

_SET, _PROTEIN = "set:", "protein:"


def parquet_results(paths: Sequence[Path]) -> StoredResults:
    """Find results in tables, one after the other.

    Parameters
    ----------
    paths
        One or more, of one mapping.

    Raises
    ------
    QueryError
        When mapping did not write the first of them.
    """
    import pyarrow.parquet as pq

    schema = pq.read_schema(paths[0])
    written = (schema.metadata or {}).get(UNS_KEY.encode())
    if written is None:
        raise not_mapped(paths[0], f"metadata {UNS_KEY!r}")
    labels, proteins = _after(schema.names, _SET), _after(schema.names, _PROTEIN)
    needed = [LABEL, CONFIDENCE, NOVELTY, *(f"{_SET}{name}" for name in labels)]
    for name in needed:
        if name not in schema.names or not labels:
            raise not_mapped(paths[0], f"the column {name!r}" if labels else f"columns {_SET!r}")
    with_map = set(MAP_COLUMNS) <= set(schema.names)
    columns = [*needed, *(MAP_COLUMNS if with_map else ()), *(f"{_PROTEIN}{name}" for name in proteins)]

    def blocks() -> Iterator[CellResults]:
        for path in paths:
            with pq.ParquetFile(path) as table:
                for batch in table.iter_batches(WINDOW, columns=columns):
                    yield _results(batch, labels, proteins, with_map)

    uns = json.loads(written)
    if (cells := _cells(paths)) is not None:
        uns["cells"] = cells
    return StoredResults(uns, labels, proteins, blocks)


def _cells(paths: Sequence[Path]) -> dict[str, int] | None:
    """Add up what tables say of their cells; None where not all do, as those of older versions."""
    import pyarrow.parquet as pq

    total: Counter[str] = Counter()
    for path in paths:
        said = (pq.read_metadata(path).metadata or {}).get(CELLS_KEY.encode())
        if said is None:
            return None
        total.update(json.loads(said))
    return dict(total)


def _results(batch: Any, labels: list[str], proteins: list[str], with_map: bool) -> CellResults:
    def numbers(name: str) -> Any:
        return batch.column(name).to_numpy(zero_copy_only=False).astype(np.float32)

    label = batch.column(LABEL)
    label = label if hasattr(label, "dictionary") else label.dictionary_encode()
    codes = label_codes(label.dictionary.to_pylist(), labels)
    return CellResults(
        # A cell without a label has no index; the last code stands for it.
        label=codes[label.indices.fill_null(len(codes) - 1).to_numpy(zero_copy_only=False)],
        confidence=numbers(CONFIDENCE),
        novelty=numbers(NOVELTY),
        set_size=sum(
            batch.column(f"{_SET}{name}").fill_null(False).to_numpy(zero_copy_only=False).astype(np.intp)
            for name in labels
        ),
        coordinates=np.stack([numbers(name) for name in MAP_COLUMNS], axis=1) if with_map else None,
        protein=np.stack([numbers(f"{_PROTEIN}{name}") for name in proteins], axis=1) if proteins else None,
    )


def _after(names: Sequence[str], prefix: str) -> list[str]:
    return [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
