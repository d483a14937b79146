"""Where queries come from: an object in memory, or an ``.h5ad`` or ``.h5mu`` file read in blocks of rows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

from totalanvi.serving.errors import QueryError, ServingError
from totalanvi.serving.hdf5_safety import require_self_contained
from totalanvi.serving.query import QuerySource
from totalanvi.serving.tables import FileTable, MemoryTable, stored_names

if TYPE_CHECKING:
    import anndata
    import h5py
    import mudata

__all__ = ["QueryData", "is_mudata", "open_query", "read_object"]

QueryData: TypeAlias = Union["anndata.AnnData", "mudata.MuData", str, "os.PathLike[str]"]
"""What can be mapped: an object in memory, or the path of a file."""


@contextmanager
def open_query(data: QueryData, proteins: str | None = None, layer: str | None = None) -> Iterator[QuerySource]:
    """Open a query for reading in blocks; of a file, only names are read at once.

    Parameters
    ----------
    data
        AnnData, MuData, or the path of an ``.h5ad`` or ``.h5mu`` file.
    proteins
        Key of ``obsm`` (AnnData) or name of a modality (MuData); None finds the usual ones, ``"none"`` takes none.
    layer
        Layer that holds the raw RNA counts; None takes ``X``.

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
        with _open_file(Path(data)) as file:
            yield _file_source(Path(data), file, proteins, layer)
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
    """Read a file whole, as the object it holds, after the same checks as `open_query`.

    Raises
    ------
    QueryError
        When the file is missing, damaged, reaches outside itself, or holds something else.
    """
    path = Path(path)
    with _open_file(path) as file:
        holds_mudata = _holds_mudata(path, file)
    with _reading(path):
        if holds_mudata:
            import mudata

            return mudata.read_h5mu(path)
        import anndata

        return anndata.read_h5ad(path)


def is_mudata(data: object) -> bool:
    """Tell a MuData from an AnnData without importing either."""
    return hasattr(data, "mod") and hasattr(data, "obs_names")


@contextmanager
def _open_file(path: Path) -> Iterator[h5py.File]:
    import h5py

    _require_file(path)
    if not h5py.is_hdf5(path):
        raise QueryError(
            f"Expected an HDF5 file (.h5ad or .h5mu); found that {str(path)!r} is none. "
            f"Convert the query with adata.write_h5ad or mdata.write_h5mu."
        )
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise QueryError(
            f"Expected a whole HDF5 file; found that {str(path)!r} is truncated or damaged ({error}). "
            f"Copy it again and compare sizes."
        ) from error
    with file:
        with _reading(path):
            require_self_contained(file)
        yield file


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise QueryError(f"Expected a query file (.h5ad or .h5mu); found that {str(path)!r} is a folder. Name a file.")
    if not path.exists():
        raise QueryError(f"Expected a query file; found nothing at {str(path)!r}. Check the path.")
    if not os.access(path, os.R_OK):
        raise QueryError(f"Expected to read {str(path)!r}; found that its permissions forbid it. Change them.")


def _file_source(path: Path, file: h5py.File, proteins: str | None, layer: str | None) -> QuerySource:
    guard = partial(_reading, path)
    with guard():
        if not _holds_mudata(path, file):
            return QuerySource.from_anndata(FileTable(file), proteins, layer, guard)
        tables = {name: FileTable(group) for name, group in file["mod"].items()}
        return QuerySource.from_mudata(stored_names(file["obs"]), tables, proteins, layer, guard)


def _holds_mudata(path: Path, file: h5py.File) -> bool:
    """Tell which object a file holds by what is in it, whatever its suffix."""
    if "mod" in file and "obs" in file:
        return True
    if "obs" in file and "var" in file:
        return False
    found = ", ".join(repr(name) for name in list(file)[:8]) or "nothing"
    raise QueryError(
        f"Expected an AnnData (obs, var) or a MuData (obs, mod) in {str(path)!r}; found {found}. "
        f"Write the query with adata.write_h5ad or mdata.write_h5mu."
    )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Name the file in whatever a damaged or hostile one makes the libraries raise."""
    try:
        yield
    except ServingError:
        raise
    except Exception as error:
        raise QueryError(
            f"Expected a valid AnnData or MuData in {str(path)!r}; found one that cannot be read "
            f"({type(error).__name__}: {error}). Copy it again, or write it again with a current anndata."
        ) from error
