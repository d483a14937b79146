"""References as files: h5ad and h5mu, read whole, and written beside their final name first."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import anndata
import h5py
import mudata
from anndata import AnnData
from mudata import MuData

from totalanvi.training.errors import OutputError, RegistrationError
from totalanvi.training.hdf5_safety import require_self_contained

__all__ = ["obstacle", "read_reference", "require_apart", "require_new", "write_data", "write_mudata"]


def read_reference(path: Path) -> AnnData | MuData:
    """Read ``.h5ad`` or ``.h5mu``.

    Raises
    ------
    RegistrationError
        When the file is missing, has another suffix, is no such file, or reaches into other files.
    """
    if path.suffix not in (".h5ad", ".h5mu"):
        raise RegistrationError(
            f"Expected a reference in .h5ad or .h5mu, found {path.name}; convert it to one of them."
        )
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise RegistrationError(f"Expected a reference at {path}, found {found}; check the path.")
    if not h5py.is_hdf5(path):
        raise RegistrationError(
            f"Expected an HDF5 file, found that {path} is none; it may be truncated, or something else renamed."
        )
    try:
        require_self_contained(path)
        _require_kind_of_its_suffix(path)
        if path.suffix == ".h5mu":
            with mudata.set_options(pull_on_update=False):
                return mudata.read_h5mu(path)
        return anndata.read_h5ad(path)
    except RegistrationError:
        raise
    except Exception as error:  # whatever HDF5 and the readers raise for a damaged file
        kind = "a MuData" if path.suffix == ".h5mu" else "an AnnData"
        raise RegistrationError(
            f"Expected {kind} in {path}, found one that cannot be read ({error}); write it again, or copy it "
            "again: it may be truncated."
        ) from error


def _require_kind_of_its_suffix(path: Path) -> None:
    """Refuse a file of the other kind: either reader would fail on something inside it."""
    with h5py.File(path) as file:
        found = ".h5mu" if "mod" in file else ".h5ad" if "X" in file and "obs" in file else path.suffix
    if found != path.suffix:
        kind, other = ("an AnnData", "a MuData") if found == ".h5mu" else ("a MuData", "an AnnData")
        raise RegistrationError(f"Expected {kind} in {path}, found {other}; name it {path.stem}{found}.")


def obstacle(path: Path) -> str | None:
    """What is in the way of making a file or a folder with the folders above it, in words; `None` if nothing is."""
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir():
        return f"{above}, which is a file"
    if not os.access(above, os.W_OK):
        return f"{above}, which may not be written"
    return None


def require_new(path: Path, suffix: str, overwrite: bool) -> None:
    """Refuse an output that exists, cannot be made or has the wrong suffix, before any work is done.

    Raises
    ------
    OutputError
        Saying which.
    """
    if path.suffix != suffix:
        raise OutputError(f"Expected an output that ends in {suffix}, found {path.name}; name it so.")
    if found := obstacle(path):
        raise OutputError(f"Expected a folder in which to make {path}, found {found}; choose another place.")
    if path.is_dir():
        raise OutputError(f"Expected the name of a file to write, found {path}, which is a folder; choose another.")
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
    OutputError
        When nothing can be written there.
    OSError
        When there is no room for it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        room = tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent)
    except OSError as error:  # a place may refuse what its permissions allow
        raise OutputError(
            f"Expected a place where {path} can be written, found one where it cannot ({error.strerror}); choose "
            "another."
        ) from error
    with room as folder:
        temporary = Path(folder) / path.name
        write_data(mdata, temporary)
        temporary.replace(path)


def write_data(data: AnnData | MuData, path: Path, **options: Any) -> None:
    """Write ``.h5ad`` or ``.h5mu`` where there is room for it.

    Parameters
    ----------
    data
        What to write.
    path
        A temporary name: what fails may leave a part of the file there.
    options
        Arguments of ``AnnData.write_h5ad`` or ``MuData.write_h5mu``.

    Raises
    ------
    OSError
        When there is no room for it.
    """
    is_mudata = isinstance(data, MuData)
    _require_room(path, sum(part.__sizeof__() for part in (data.mod.values() if is_mudata else [data])))
    # As the next mudata does by default; this one warns of it.
    with mudata.set_options(pull_on_update=False):
        (data.write_h5mu if is_mudata else data.write_h5ad)(path, **options)


def _require_room(path: Path, n_bytes: int) -> None:
    """Make a file of this size for a moment: HDF5 may crash where writing fails half-way."""
    with path.open("wb") as scratch:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(scratch.fileno(), 0, n_bytes)
    path.unlink()
