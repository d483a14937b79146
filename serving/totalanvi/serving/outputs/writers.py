"""Annotated copies of a query, and tables with one row per cell."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd

from totalanvi.serving.errors import OutputError
from totalanvi.serving.features import ReferenceFeatures
from totalanvi.serving.mapped import MappedCells
from totalanvi.serving.outputs.annotate import OBS_COLUMNS, OBSM_KEYS, UNS_KEY, Annotations
from totalanvi.serving.outputs.copies import copy_query
from totalanvi.serving.outputs.output import OutputPlan, staged
from totalanvi.serving.outputs.result_table import result_table
from totalanvi.serving.queries.readers import reading_query
from totalanvi.serving.queries.stored_frames import stored_names

if TYPE_CHECKING:
    import h5py

__all__ = ["Writer", "open_writer"]

_SLACK_BYTES = 8 << 20
"""For what HDF5 keeps beside the values themselves."""


class Writer(Protocol):
    """Takes mapped cells, block by block, in the query's order."""

    def write(self, cell_ids: pd.Index, mapped: MappedCells) -> None:
        """Take a block of cells (cells,); those that could not be mapped have missing values."""

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
    with staged(plan) as path:
        writer: Writer
        if plan.format == "parquet":
            writer = _ParquetFile(path, features, uns)
        elif plan.format == "parts":
            writer = _ParquetFolder(path, features, uns)
        else:
            writer = _AnnotatedCopy(path, plan, query, rna_modality, features, uns)
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

    def write(self, cell_ids: pd.Index, mapped: MappedCells) -> None:
        with self._writing():
            self._writer.write(cell_ids, mapped)

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
        self._file: Any = None

    def write(self, cell_ids: pd.Index, mapped: MappedCells) -> None:
        import pyarrow.parquet as pq

        table = result_table(cell_ids, mapped, self._features, self._uns)
        if self._file is None:
            self._file = pq.ParquetWriter(self._path, table.schema)
        self._file.write_table(table)

    def finish(self) -> None:
        self._file.close()


class _ParquetFolder:
    """A folder with a table for each block."""

    def __init__(self, path: Path, features: ReferenceFeatures, uns: dict[str, Any]) -> None:
        self._path = path
        self._features = features
        self._uns = uns
        self._parts = 0
        path.mkdir()

    def write(self, cell_ids: pd.Index, mapped: MappedCells) -> None:
        import pyarrow.parquet as pq

        table = result_table(cell_ids, mapped, self._features, self._uns)
        pq.write_table(table, self._path / f"part-{self._parts:05d}.parquet")
        self._parts += 1

    def finish(self) -> None:
        """Each part is complete by itself."""


class _AnnotatedCopy:
    """A copy of the query to which annotations are added: whatever else it holds stays as it is."""

    def __init__(
        self,
        path: Path,
        plan: OutputPlan,
        query: Path,
        rna_modality: str | None,
        features: ReferenceFeatures,
        uns: dict[str, Any],
    ) -> None:
        self._path = path
        self._format = plan.format
        self._query = query
        self._rna_modality = rna_modality
        self._features = features
        self._uns = uns
        self._cell_ids: list[pd.Index] = []
        self._mapped: list[MappedCells] = []

    def write(self, cell_ids: pd.Index, mapped: MappedCells) -> None:
        self._cell_ids.append(cell_ids)
        self._mapped.append(mapped)

    def finish(self) -> None:
        # Only now is everything read that is copied but not mapped. What the system says of disk and memory passes.
        with reading_query(self._query, OSError, MemoryError):
            self._copy_and_annotate()

    def _copy_and_annotate(self) -> None:
        import h5py

        mapped = MappedCells.concatenate(self._mapped)
        cell_ids = self._cell_ids[0].append(self._cell_ids[1:])
        annotation_bytes = sum(array.nbytes for array in mapped.arrays().values())
        modality = self._rna_modality if self._format == "h5ad" else None
        copy_query(self._query, self._path, modality, room_for=3 * annotation_bytes + _SLACK_BYTES)
        with h5py.File(self._path, "r+") as file:
            groups = [file] if self._format == "h5ad" else [file, file["mod"][self._rna_modality]]
            for group in groups:
                names = stored_names(group["obs"])
                _annotate_group(group, Annotations.of(mapped, cell_ids, names, self._features, self._uns))


def _annotate_group(group: h5py.Group, annotations: Annotations) -> None:
    """Add annotations to an AnnData or MuData in a file; those of an earlier run are replaced, or removed."""
    from anndata.io import read_elem, write_elem

    with warnings.catch_warnings():
        # A label or protein may have a slash in its name, and it has to be the column's name.
        warnings.filterwarnings("ignore", "Forward slashes", FutureWarning)
        obs = read_elem(group["obs"])
        obs = obs.drop(columns=[column for column in OBS_COLUMNS if column in obs and column not in annotations.obs])
        for column, values in annotations.obs.items():
            obs[column] = values
        write_elem(group, "obs", obs)
        for parent in ("obsm", "uns"):
            if parent not in group:
                write_elem(group, parent, {})
        for key in OBSM_KEYS:
            if key in annotations.obsm:
                write_elem(group["obsm"], key, annotations.obsm[key])
            elif key in group["obsm"]:
                del group["obsm"][key]
        write_elem(group["uns"], UNS_KEY, annotations.uns)
