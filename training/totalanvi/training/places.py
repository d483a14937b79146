"""Places that a user names, judged before any work is done, and before anything heavy is imported."""

from __future__ import annotations

import os
from pathlib import Path

from totalanvi.formats.errors import FormatError
from totalanvi.formats.stores import content_of, layout_of, open_hdf5
from totalanvi.training.errors import OutputError, RegistrationError

__all__ = ["obstacle", "require_apart", "require_new", "require_reference"]

_TEMPORARY_BYTES = 10
"""By which the name is longer under which something is written at first."""


def obstacle(path: Path) -> str | None:
    """What is in the way of making a file or a folder with the folders above it, in words; `None` if nothing is."""
    above = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    if not above.is_dir():
        return f"{above}, which is a file"
    if not os.access(above, os.W_OK):
        return f"{above}, which may not be written"
    longest = os.pathconf(above, "PC_NAME_MAX") - _TEMPORARY_BYTES
    if any(len(os.fsencode(name)) > longest for name in path.absolute().relative_to(above).parts):
        return f"a name of more than {longest} bytes"
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


def require_reference(path: Path) -> None:
    """Refuse what is no reference by its place and kind; what is in it, `read_reference` judges.

    Parameters
    ----------
    path
        Where it is, see `totalanvi.training.files.read_reference`.

    Raises
    ------
    RegistrationError
        When nothing is there, it may not be read, or it is of another kind.
    """
    try:
        if layout_of(path) == "hdf5":
            with open_hdf5(path) as file:
                content_of(path, file)
    except FormatError as error:
        raise RegistrationError(str(error)) from error
