"""Places that a user names, judged before any work is done, and before anything heavy is imported."""

from __future__ import annotations

from pathlib import Path

from totalanvi.formats.errors import FormatError
from totalanvi.formats.places import obstacle
from totalanvi.formats.stores import content_of, layout_of, open_hdf5
from totalanvi.training.errors import OutputError, RegistrationError

__all__ = ["require_apart", "require_new", "require_reference"]


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
