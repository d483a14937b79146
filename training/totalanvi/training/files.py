"""References as files: read whole, and written beside their final name first."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import mudata
from anndata import AnnData
from mudata import MuData

from totalanvi.formats.errors import FormatError
from totalanvi.formats.objects import read_object
from totalanvi.training.errors import OutputError, RegistrationError

__all__ = ["read_reference", "require_apart", "require_new", "require_room", "write_mudata"]


def read_reference(path: Path) -> AnnData | MuData:
    """Read a reference whole: ``.h5ad``, ``.h5mu``, a 10x ``.h5``, or a folder, of Zarr or of a 10x matrix.

    Raises
    ------
    RegistrationError
        When nothing is there, it is damaged, reaches outside itself, or holds something else.
    """
    try:
        return read_object(path)
    except FormatError as error:
        raise RegistrationError(str(error)) from error


def require_new(path: Path, suffix: str, overwrite: bool) -> None:
    """Refuse an output that exists or has the wrong suffix, before any work is done.

    Raises
    ------
    OutputError
        Saying which.
    """
    if path.suffix != suffix:
        raise OutputError(f"Expected an output that ends in {suffix}, found {path.name}; name it so.")
    if path.exists() and not overwrite:
        raise OutputError(
            f"Expected an output that does not exist yet, found {path}; choose another, or overwrite it (--overwrite)."
        )


def require_apart(output: Path, query: Path) -> None:
    """Refuse two outputs in one file, of which the second would replace the first.

    Raises
    ------
    OutputError
        Saying so.
    """
    if output.resolve() == query.resolve():
        raise OutputError(
            f"Expected another file for the query than for the reference, found {query} for both; name another."
        )


def write_mudata(mdata: MuData, path: Path) -> None:
    """Write ``.h5mu`` to a temporary name, then rename.

    Raises
    ------
    OSError
        When there is no room for it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        require_room(temporary, sum(part.__sizeof__() for part in mdata.mod.values()))
        # As the next mudata does by default; this one warns of it.
        with mudata.set_options(pull_on_update=False):
            mdata.write_h5mu(temporary)
        temporary.replace(path)


def require_room(path: Path, n_bytes: int) -> None:
    """Make a file of this size for a moment: HDF5 may crash where writing fails half-way."""
    with path.open("wb") as scratch:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(scratch.fileno(), 0, n_bytes)
    path.unlink()
