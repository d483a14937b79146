"""Annotated copies of a query, and tables with one row per cell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from totalanvi.serving.errors import OutputError
from totalanvi.serving.features import ReferenceFeatures
from totalanvi.serving.mapped import MappedCells
from totalanvi.serving.outputs.annotated_copy import AnnotatedCopy
from totalanvi.serving.outputs.output import OutputPlan, staged
from totalanvi.serving.outputs.result_spool import ResultSpool
from totalanvi.serving.outputs.result_table import CELLS_KEY, NAME_COLUMNS, result_table
from totalanvi.serving.outputs.written_cells import WrittenCells

__all__ = ["Writer", "open_writer"]


class Writer(Protocol):
    """Takes mapped cells, block by block, in the query's order."""

    def write(self, cell_ids: pd.Index, mapped: MappedCells, n_with_proteins: int) -> None:
        """Take a block of cells (cells,); those that could not be mapped have missing values.

        Of those that could, `n_with_proteins` have proteins that were measured.
        """

    def finish(self) -> None:
        """Complete what was written."""


@contextmanager
def open_writer(
    plan: OutputPlan, query: Path, rna_modality: str | None, features: ReferenceFeatures, uns: dict[str, Any]
) -> Iterator[Writer]:
    """Open an output; it appears, whole, when the context ends without an error.

    Parameters
    ----------
    plan
        Where to, and as what.
    query
        The query's file or folder, of which ``.h5ad`` and ``.h5mu`` outputs are annotated copies.
    rna_modality
        Name of the modality that was mapped; None for an AnnData.
    features
        Names labels and proteins.
    uns
        Where the annotations come from, see `totalanvi.serving.outputs.annotate.provenance`.

    Raises
    ------
    OutputError
        When HDF5 has no place for the reference's names, or writing fails, for want of room for instance.
    """
    if plan.format in ("h5ad", "h5mu"):
        _require_columns(features)
    with staged(plan) as path, ExitStack() as opened:
        writer: Writer
        if plan.format == "parquet":
            writer = _ParquetFile(path, features, uns)
        elif plan.format == "parts":
            writer = _ParquetFolder(path, features, uns)
        else:
            spool = opened.enter_context(ResultSpool(path.with_name(f"{path.name}.results")))
            writer = AnnotatedCopy(path, plan, query, rna_modality, features, uns, spool)
        guarded = _Guarded(writer, plan.path)
        yield guarded
        guarded.finish()


def _require_columns(features: ReferenceFeatures) -> None:
    """Refuse names of which HDF5, to which a slash is a folder's, would write one over another, or none at all."""
    for names in (features.labels, features.proteins):
        taken = {"_index", *names}
        for name in names:
            folders = name.split("/")
            above = {"/".join(folders[:depth]) for depth in range(1, len(folders))} & taken
            if name == "_index" or "\0" in name or above or not all(folder not in ("", ".") for folder in folders):
                raise OutputError(
                    f"Expected labels and proteins of the reference that can be columns of a table in HDF5; found "
                    f"{name!r}{''.join(f' beside {other!r}' for other in above)}. Write a table (.parquet), or rename "
                    f"it and export the reference again."
                )


class _Guarded:
    """Names the output in whatever goes wrong while writing it."""

    def __init__(self, writer: Writer, path: Path) -> None:
        self._writer = writer
        self._path = path

    def write(self, cell_ids: pd.Index, mapped: MappedCells, n_with_proteins: int) -> None:
        with self._writing():
            self._writer.write(cell_ids, mapped, n_with_proteins)

    def finish(self) -> None:
        with self._writing():
            self._writer.finish()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"Expected to write {str(self._path)!r}; found that this fails ({error}). "
                f"Make room, or choose another place."
            ) from error


class _ParquetFile:
    """One table, a row group for each block."""

    def __init__(self, path: Path, features: ReferenceFeatures, uns: dict[str, Any]) -> None:
        self._path = path
        self._features = features
        self._uns = uns
        self._written = WrittenCells()
        self._file: Any = None

    def write(self, cell_ids: pd.Index, mapped: MappedCells, n_with_proteins: int) -> None:
        import pyarrow.parquet as pq

        table = result_table(cell_ids, mapped, self._features, self._uns)
        if self._file is None:
            self._file = pq.ParquetWriter(self._path, table.schema, use_dictionary=NAME_COLUMNS)
        self._file.write_table(table)
        self._written.add(mapped, n_with_proteins)

    def finish(self) -> None:
        # The schema with its metadata came before the cells; what was counted of them stands at the end of the file.
        self._file.add_key_value_metadata({CELLS_KEY: json.dumps(self._written.as_dict())})
        self._file.close()


class _ParquetFolder:
    """A folder with a table for each block."""

    def __init__(self, path: Path, features: ReferenceFeatures, uns: dict[str, Any]) -> None:
        self._path = path
        self._features = features
        self._uns = uns
        self._parts = 0
        path.mkdir()

    def write(self, cell_ids: pd.Index, mapped: MappedCells, n_with_proteins: int) -> None:
        part = _ParquetFile(self._path / f"part-{self._parts:05d}.parquet", self._features, self._uns)
        part.write(cell_ids, mapped, n_with_proteins)
        part.finish()
        self._parts += 1

    def finish(self) -> None:
        """Each part is complete by itself."""
