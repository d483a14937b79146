"""A copy of a query's file with annotations, which are added column by column: no whole matrix is ever in memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from totalanvi.serving.features import ReferenceFeatures
from totalanvi.serving.mapped import MappedCells
from totalanvi.serving.outputs.annotate import (
    LABEL_SET,
    MISSING,
    OBS_COLUMNS,
    OBSM_KEYS,
    UNS_KEY,
    obs_entries,
    obsm_entries,
)
from totalanvi.serving.outputs.copies import copy_ahead, copy_query, is_copied_whole
from totalanvi.serving.outputs.label_names import label_sets
from totalanvi.serving.outputs.output import OutputPlan
from totalanvi.serving.outputs.result_spool import ResultSpool
from totalanvi.serving.outputs.written_cells import WrittenCells
from totalanvi.serving.queries.readers import reading_query
from totalanvi.serving.queries.stored_frames import stored_names

if TYPE_CHECKING:
    import h5py

__all__ = ["AnnotatedCopy"]

_SLACK_BYTES = 8 << 20
"""For what HDF5 keeps beside the values themselves."""

_FRAME, _ARRAY = ("dataframe", "0.2.0"), ("array", "0.2.0")
"""How anndata has stored DataFrames since 0.7.7, and arrays since 0.8."""

Positions = npt.NDArray[np.intp] | None
"""Which of the mapped cells each cell is (cells,), -1 for none; None where they are the same."""


class AnnotatedCopy:
    """A copy of the query to which annotations are added: whatever else it holds stays as it is.

    Parameters
    ----------
    path
        Of the copy.
    plan
        The output.
    query
        The query's file or folder.
    rna_modality
        Name of the modality that was mapped; None for an AnnData.
    features
        Names labels and proteins.
    uns
        See `totalanvi.serving.outputs.provenance.provenance`.
    spool
        Where results are kept until they are all there.
    """

    def __init__(
        self,
        path: Path,
        plan: OutputPlan,
        query: Path,
        rna_modality: str | None,
        features: ReferenceFeatures,
        uns: dict[str, Any],
        spool: ResultSpool,
    ) -> None:
        self._path = path
        self._format = plan.format
        self._query = query
        self._rna_modality = rna_modality
        self._modality = rna_modality if plan.format == "h5ad" else None
        self._is_copied_whole = is_copied_whole(query, self._modality)
        self._features = features
        self._uns = uns
        self._spool = spool
        self._written = WrittenCells()
        self._cell_ids: list[pd.Index] = []
        self._set_codes: list[npt.NDArray[np.int32]] = []
        self._sets: dict[str, int] = {}

    def write(self, cell_ids: pd.Index, mapped: MappedCells, n_with_proteins: int) -> None:
        """Take a block of cells (cells,), and copy some of the query meanwhile."""
        if self._is_copied_whole:
            copy_ahead(self._query, self._path)
        self._cell_ids.append(cell_ids)
        self._spool.append(mapped)
        self._written.add(mapped, n_with_proteins)
        codes, names = label_sets(mapped, self._features)
        # One more for -1, which is the last.
        known = [*(self._sets.setdefault(name, len(self._sets)) for name in names), -1]
        self._set_codes.append(np.array(known, dtype=np.int32)[codes])

    def finish(self) -> None:
        """Copy the query, and annotate the copy."""
        # Only now is everything read that is copied but not mapped. What the system says of disk and memory passes.
        with reading_query(self._query, OSError, MemoryError):
            self._copy_and_annotate()

    def _copy_and_annotate(self) -> None:
        import h5py

        copy_query(self._query, self._path, self._modality, room_for=3 * self._spool.n_bytes + _SLACK_BYTES)
        cell_ids = self._cell_ids[0].append(self._cell_ids[1:])
        with h5py.File(self._path, "r+") as file:
            groups = [file] if self._format == "h5ad" else [file, file["mod"][self._rna_modality]]
            for group in groups:
                n_cells, positions = _places(stored_names(group["obs"]), cell_ids)
                self._annotate(group, n_cells, positions)

    def _annotate(self, group: h5py.Group, n_cells: int, positions: Positions) -> None:
        """Add annotations to an AnnData or MuData in a file; those of an earlier run are replaced, or removed."""
        from anndata.io import write_elem

        columns: dict[str, Any] = {}
        for name, (array, categories) in obs_entries(self._features).items():
            values = self._column(array, 0, positions)
            columns[name] = values if categories is None else pd.Categorical.from_codes(values, pd.Index(categories))
        columns[LABEL_SET] = self._label_sets(positions)
        _replace_columns(group, n_cells, {name: columns[name] for name in OBS_COLUMNS if name in columns})
        for parent in ("obsm", "uns"):
            if parent not in group:
                write_elem(group, parent, {})
        entries = {key: entry for key, entry in obsm_entries(self._features).items() if entry[0] in self._spool}
        for key in OBSM_KEYS:
            if key in group["obsm"]:
                del group["obsm"][key]
            if key not in entries:
                continue
            array, names = entries[key]
            if names is None:
                self._write_array(group["obsm"], key, array, positions)
            else:
                self._write_frame(group, key, array, names, positions)
        write_elem(group["uns"], UNS_KEY, self._uns | {"cells": self._written.as_dict()})

    def _write_array(self, obsm: h5py.Group, key: str, array: str, positions: Positions) -> None:
        from anndata.io import write_elem

        first = self._column(array, 0, positions)
        values = np.empty((len(first), self._spool.n_columns(array)), dtype=first.dtype)
        for place in range(values.shape[1]):
            values[:, place] = self._column(array, place, positions)
        write_elem(obsm, key, values)

    def _write_frame(self, group: h5py.Group, key: str, array: str, names: list[str], positions: Positions) -> None:
        """Write what anndata reads as a DataFrame; the names of its rows are those of ``obs``, stored once.

        A label or protein may have a slash in its name, and it has to be the column's name. anndata reads such columns,
        and writes none from 0.13 on.
        """
        obs = group["obs"]
        frame = group["obsm"].create_group(key)
        frame.attrs.update(dict(zip(("encoding-type", "encoding-version"), _FRAME, strict=True)))
        frame.attrs["column-order"] = np.array(names, dtype=object)
        frame.attrs["_index"] = "_index"
        frame["_index"] = obs[obs.attrs["_index"]]
        for place, name in enumerate(names):
            column = frame.create_dataset(name, data=self._column(array, place, positions))
            column.attrs.update(dict(zip(("encoding-type", "encoding-version"), _ARRAY, strict=True)))

    def _column(self, array: str, place: int, positions: Positions) -> npt.NDArray[Any]:
        return _taken(self._spool.column(array, place), positions)

    def _label_sets(self, positions: Positions) -> pd.Categorical:
        ranks = {name: rank for rank, name in enumerate(sorted(self._sets))}
        rank_of = np.array([*(ranks[name] for name in self._sets), -1], dtype=np.int32)
        codes = _taken(np.concatenate(self._set_codes), positions)
        return pd.Categorical.from_codes(rank_of[codes], pd.Index(list(ranks), dtype=object))


def _places(names: pd.Index, cell_ids: pd.Index) -> tuple[int, Positions]:
    """Return how many cells a copy has (names of the cells,), and which of the mapped ones (mapped cells,) they are."""
    return len(names), None if names.equals(cell_ids) else cell_ids.get_indexer(names)


def _taken(values: npt.NDArray[Any], positions: Positions) -> npt.NDArray[Any]:
    """Take values (mapped cells,) by position (cells,); what is missing stands where that is -1."""
    if positions is None:
        return values
    taken = values[positions]
    taken[positions < 0] = MISSING[values.dtype.kind]
    return taken


def _replace_columns(group: h5py.Group, n_cells: int, columns: dict[str, Any]) -> None:
    """Put columns into the ``obs`` of a group, in the place of all that an earlier run left there."""
    from anndata.io import read_elem, write_elem

    obs = group["obs"]
    if (obs.attrs.get("encoding-type"), obs.attrs.get("encoding-version")) != _FRAME:
        frame = read_elem(obs)
        frame = frame.drop(columns=[name for name in OBS_COLUMNS if name in frame and name not in columns])
        write_elem(group, "obs", frame.assign(**columns))
        return
    order = [str(name) for name in np.asarray(obs.attrs["column-order"]).tolist()]
    for name in order:
        if name in OBS_COLUMNS:
            del obs[name]
        elif len(values := read_elem(obs[name])) != n_cells:
            # Read for nothing but to find what is damaged, one at a time.
            raise ValueError(f"{len(values)} values for {n_cells} cells in column {name!r} of obs")
    kept = [name for name in order if name not in OBS_COLUMNS or name in columns]
    obs.attrs["column-order"] = np.array([*kept, *(name for name in columns if name not in kept)], dtype=object)
    for name, values in columns.items():
        write_elem(obs, name, values)
