"""Files that are whole or not there, whatever ends the process or the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from totalanvi.serving.errors import OutputError

__all__ = ["put", "writing_to"]


def put(made: Path, target: Path) -> None:
    """Give a file its final name, once all of it is on the disk.

    Parameters
    ----------
    made
        The file, on the same disk as `target`.
    target
        Replaced when it is there; its folder must be.
    """
    with made.open("rb") as stream:
        os.fsync(stream.fileno())
    made.replace(target)
    _sync_folder(target.parent)


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Name the folder in whatever the system says while something is written there.

    Raises
    ------
    OutputError
        For an `OSError` from within.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"Expected to write in {str(folder)!r}; found that this fails ({error.strerror or error}). Make room, "
            f"change permissions, or choose another place."
        ) from error


def _sync_folder(folder: Path) -> None:
    """Put a folder's list of names on the disk, where the system can be asked to."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
