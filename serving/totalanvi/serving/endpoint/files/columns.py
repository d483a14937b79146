"""What is shown of a mapped file: its cells as plain columns of numbers, which a browser takes as they are.

`CELLS` is the bytes ``TVCELLS1``, the length of a header (eight bytes), the header as JSON, and columns; `PROTEINS` has
one column of float32 for each protein, one after the other, so that a range of bytes fetches one. All numbers are
little-endian. The header lists its columns with a type, and where each begins and how many bytes it has::

    label, guess, certain   int16    places in the header's names of the same name, -1 for a cell that was not mapped
    confidence, novelty     float32  NaN for such a cell
    x, y                    float32  place on the reference's map
    set                     int32    place in the header's label sets, or -1
    id_end, id              uint32, uint8    where each name of a cell ends, and all names in UTF-8, one after the other
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from totalanvi.serving.bundles.info import ReferenceInfo
from totalanvi.serving.features import ReferenceFeatures
from totalanvi.serving.outputs.annotate import CERTAIN, CONFIDENCE, GUESS, LABEL, LABEL_SET, NOVELTY
from totalanvi.serving.outputs.label_names import certain_names, label_names
from totalanvi.serving.outputs.map_summary import MapSummary
from totalanvi.serving.outputs.result_table import MAP_COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["MAGIC", "write_columns"]

MAGIC = b"TVCELLS1"
_ALIGNED = 8
_FLOATS = {"confidence": CONFIDENCE, "novelty": NOVELTY, "x": MAP_COLUMNS[0], "y": MAP_COLUMNS[1]}


def write_columns(
    summary: MapSummary, reference: ReferenceInfo, features: ReferenceFeatures, cells: Path, proteins: Path
) -> None:
    """Write the columns of a table that a query was mapped into.

    Parameters
    ----------
    summary
        What became of the query; its output is the table.
    reference, features
        What it was mapped to.
    cells, proteins
        Where to, see the module.
    """
    names = {"label": label_names(features), "guess": list(features.labels)}
    codes = {"label": LABEL, "guess": GUESS}
    if features.parents:
        names["certain"], codes["certain"] = certain_names(features), CERTAIN
    columns: dict[str, npt.NDArray[Any]] = {}
    for name, column in codes.items():
        columns[name] = _codes(_read(summary.output, column), names[name]).astype("<i2")
    for name, column in _FLOATS.items():
        columns[name] = _floats(_read(summary.output, column))
    sets = _read(summary.output, LABEL_SET).dictionary_encode().combine_chunks()
    columns["set"] = _numbers(sets.indices.fill_null(-1), "<i4")
    ids = [name.encode() for name in _read(summary.output, "cell_id").to_pylist()]
    columns["id_end"] = np.cumsum([len(name) for name in ids]).astype("<u4")
    columns["id"] = np.frombuffer(b"".join(ids), np.uint8)
    imputed = features.proteins if summary.options.impute else ()
    header = {
        "cells": len(ids),
        "without_rna": summary.n_without_rna,
        "unknown": summary.n_unknown,
        "reference": {"name": reference.name, "version": reference.version, "digest": reference.digest},
        "options": summary.options.as_dict(),
        "messages": summary.messages,
        "names": names,
        "sets": sets.dictionary.to_pylist(),
        "proteins": imputed,
    }
    _write(cells, header, columns)
    with proteins.open("wb") as file:
        for name in imputed:
            file.write(_floats(_read(summary.output, f"protein:{name}")).tobytes())


def _write(path: Path, header: dict[str, Any], columns: dict[str, npt.NDArray[Any]]) -> None:
    offset, places = 0, []
    for name, values in columns.items():
        places.append({"name": name, "type": values.dtype.name, "offset": offset, "bytes": values.nbytes})
        offset += _padded(values.nbytes)
    text = json.dumps(header | {"columns": places}, ensure_ascii=False, allow_nan=False).encode()
    text = text.ljust(_padded(len(text)))
    with path.open("wb") as file:
        file.write(MAGIC + len(text).to_bytes(8, "little") + text)
        for values in columns.values():
            file.write(values.tobytes().ljust(_padded(values.nbytes), b"\0"))


def _padded(length: int) -> int:
    return -(-length // _ALIGNED) * _ALIGNED


def _read(table: Path, column: str) -> pa.ChunkedArray:
    """Read one column: a table of a million cells and all their proteins need not be in memory at once."""
    import pyarrow.parquet as pq

    return pq.read_table(table, columns=[column], use_threads=False).column(0)


def _codes(column: pa.ChunkedArray, names: list[str]) -> npt.NDArray[Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    return _numbers(pc.index_in(column.cast(pa.string()), value_set=pa.array(names)).fill_null(-1), "<i4")


def _floats(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    return _numbers(column.fill_null(float("nan")), "<f4")


def _numbers(column: Any, dtype: str) -> npt.NDArray[Any]:
    numbers: npt.NDArray[Any] = np.asarray(column.to_numpy(zero_copy_only=False), dtype=dtype)
    return numbers
