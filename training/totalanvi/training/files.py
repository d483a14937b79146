"""References as files: read whole or in parts, and written beside their final name first."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from anndata import AnnData
from mudata import MuData

from totalanvi.formats.errors import FormatError
from totalanvi.formats.mudata_options import not_pulling
from totalanvi.formats.objects import read_object
from totalanvi.formats.stored_objects import bytes_of_counts, open_object
from totalanvi.machine.memory import bytes_of_memory
from totalanvi.training.errors import OutputError, RegistrationError

__all__ = ["is_large", "read_reference", "write_data", "write_mudata"]

_SHARE_OF_MEMORY = 0.25
"""What counts may take of the memory before they stay in their file: read whole, they are there up to three times."""


def read_reference(path: Path, backed: bool = False) -> AnnData | MuData:
    """Read a reference: ``.h5ad``, ``.h5mu``, a 10x ``.h5``, or a folder, of Zarr or of a 10x matrix.

    Parameters
    ----------
    path
        Where it is.
    backed
        Leave counts in the file; see `totalanvi.formats.stored_objects.open_object`.

    Raises
    ------
    RegistrationError
        When nothing is there, it is damaged, reaches outside itself, or holds something else.
    """
    try:
        return open_object(path) if backed else read_object(path)
    except FormatError as error:
        raise RegistrationError(str(error)) from error


def is_large(path: Path) -> bool:
    """Whether counts should stay in their file: they would take more than a quarter of the memory, and can be read so.

    Raises
    ------
    RegistrationError
        As `read_reference`.
    """
    try:
        found = bytes_of_counts(path)
    except FormatError as error:
        raise RegistrationError(str(error)) from error
    return found is not None and found > _SHARE_OF_MEMORY * bytes_of_memory()


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
    with not_pulling():
        (data.write_h5mu if is_mudata else data.write_h5ad)(path, **options)


def _require_room(path: Path, n_bytes: int) -> None:
    """Make a file of this size for a moment: HDF5 may crash where writing fails half-way."""
    with path.open("wb") as scratch:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(scratch.fileno(), 0, n_bytes)
    path.unlink()
