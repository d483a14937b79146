"""Where queries come from: an object in memory, or a file or folder that is read in blocks of rows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

from totalanvi.formats import objects
from totalanvi.formats.errors import FormatError, reading
from totalanvi.formats.stores import Group, content_of, layout_of, open_hdf5, open_zarr
from totalanvi.formats.tenx import tenx_anndata
from totalanvi.formats.tenx_folder import read_tenx_folder
from totalanvi.formats.tenx_h5 import TenxFile
from totalanvi.serving.errors import QueryError, ServingError
from totalanvi.serving.queries.source import QuerySource
from totalanvi.serving.queries.stored_frames import stored_names
from totalanvi.serving.queries.tables import FileTable, MemoryTable, Table, TenxTable

if TYPE_CHECKING:
    import anndata
    import mudata

__all__ = ["QueryData", "is_mudata", "open_query", "read_object", "reading_query"]

QueryData: TypeAlias = Union["anndata.AnnData", "mudata.MuData", str, "os.PathLike[str]"]
"""What can be mapped: an object in memory, or the path of a file or folder (`totalanvi.formats`)."""


@contextmanager
def open_query(data: QueryData, proteins: str | None = None, layer: str | None = None) -> Iterator[QuerySource]:
    """Open a query for reading in blocks; of what is stored, only names are read at once, but for a folder of text.

    Parameters
    ----------
    data
        AnnData, MuData, or the path of an ``.h5ad``, ``.h5mu`` or 10x ``.h5`` file, of a Zarr folder, or of the folder
        of a 10x matrix.
    proteins
        Key of ``obsm`` (AnnData) or name of a modality (MuData); None finds the usual ones, ``"none"`` takes none.
    layer
        Layer that holds the raw RNA counts, or ``"X"`` or ``"raw"``; None finds the one of these that does.

    Yields
    ------
    QuerySource
        Readable until the context ends.

    Raises
    ------
    QueryError
        When the query cannot be read, is empty, or lacks what was named.

    Examples
    --------
    >>> with open_query("query.h5ad", layer="counts") as source:  # doctest: +SKIP
    ...     for block in source.blocks(4096):
    ...         ...
    """
    if isinstance(data, (str, os.PathLike)):
        path = Path(data)
        with ExitStack() as opened:
            with reading_query(path):
                source = _stored_source(path, opened, proteins, layer)
            yield source
    elif is_mudata(data):
        tables = {name: MemoryTable(adata) for name, adata in data.mod.items()}
        yield QuerySource.from_mudata(data.obs_names.astype(str), tables, proteins, layer)
    elif hasattr(data, "obs_names") and hasattr(data, "layers"):
        yield QuerySource.from_anndata(MemoryTable(data), proteins, layer)
    else:
        raise QueryError(
            f"Expected an AnnData, a MuData or the path of a file as the query; found {type(data).__name__}. "
            f"Wrap counts as anndata.AnnData(counts, obs=..., var=...)."
        )


def read_object(path: str | os.PathLike[str]) -> anndata.AnnData | mudata.MuData:
    """Read a file or folder whole, as the object it holds, after the same checks as `open_query`.

    Raises
    ------
    QueryError
        When it is missing, damaged, reaches outside itself, or holds something else.
    """
    with reading_query(Path(path)):
        return objects.read_object(Path(path))


def is_mudata(data: object) -> bool:
    """Tell a MuData from an AnnData without importing either."""
    return hasattr(data, "mod") and hasattr(data, "obs_names")


def _stored_source(path: Path, opened: ExitStack, proteins: str | None, layer: str | None) -> QuerySource:
    """Open what a path holds; `opened` closes it."""
    guard = partial(reading_query, path)
    layout = layout_of(path)
    if layout == "10x folder":
        return QuerySource.from_anndata(MemoryTable(tenx_anndata(*read_tenx_folder(path))), proteins, layer, guard)
    group: Group = open_zarr(path) if layout == "zarr" else opened.enter_context(open_hdf5(path))
    content = content_of(path, group)
    if content == "mudata":
        tables = {name: FileTable(group["mod"][name]) for name in group["mod"]}
        return QuerySource.from_mudata(stored_names(group["obs"]), tables, proteins, layer, guard)
    table: Table = TenxTable(TenxFile(group)) if content == "10x" else FileTable(group)
    return QuerySource.from_anndata(table, proteins, layer, guard)


@contextmanager
def reading_query(path: Path, *known: type[Exception]) -> Iterator[None]:
    """Turn whatever is wrong with a file into an error of this part.

    Parameters
    ----------
    path
        What is read.
    known
        Errors of something else, which pass.

    Raises
    ------
    QueryError
        For any other exception from within.
    """
    try:
        with reading(path, ServingError, *known):
            yield
    except FormatError as error:
        raise QueryError(str(error)) from error
