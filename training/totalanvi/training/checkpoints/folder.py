"""The folder of a checkpoint: which files in it are ours, and how others take their place without loss.

A folder of a checkpoint may hold other things too. Theirs are never touched: a file is ours only when a ``config.json``
of ours lists it.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from totalanvi.formats.places import no_folder, obstacle
from totalanvi.training.checks import require_texts
from totalanvi.training.errors import ArgumentError, CheckpointError

__all__ = [
    "CELLS",
    "CONFIG",
    "DATA_FILES",
    "FORMAT",
    "MODEL",
    "READOUT",
    "REGISTRY",
    "REPORT",
    "own_files",
    "prepared_folder",
    "read_config",
    "require_prefix",
    "require_writable",
    "saved_data_file",
]

FORMAT = "totalanvi checkpoint"
"""What ``config.json`` of a checkpoint says of itself."""

CONFIG, MODEL, REGISTRY, CELLS = "config.json", "model.safetensors", "registry.json", "cells.safetensors"
READOUT = "readout.safetensors"
REPORT = "report.html"
"""A page for people; nothing reads it."""
DATA_FILES = ("adata.h5ad", "mdata.h5mu")
"""Data that was saved beside: an AnnData, or a MuData."""

_FILES = (CONFIG, MODEL, REGISTRY, CELLS, READOUT, REPORT)


def require_prefix(prefix: str | None) -> str:
    """What file names begin with, nothing by default.

    Raises
    ------
    ArgumentError
        When it would lead out of the folder.
    """
    require_texts(prefix=prefix)
    prefix = prefix or ""
    if {"/", "\\", "\0"} & set(prefix):
        raise ArgumentError(f"prefix: expected the beginning of a file name, found {prefix!r}; leave out its slashes.")
    return prefix


def read_config(folder: Path, prefix: str = "") -> dict[str, Any] | None:
    """Return what ``config.json`` says, or `None` when there is no such file, or one of something else."""
    try:
        config = json.loads((folder / f"{prefix}{CONFIG}").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) and config.get("format") == FORMAT else None


def own_files(folder: Path, prefix: str = "") -> set[str]:
    """Names, with their prefix, of the files of the checkpoint in ``folder``; none where there is no checkpoint."""
    config = read_config(folder, prefix)
    if config is None:
        return set()
    files = config.get("files", dict.fromkeys(_FILES))  # version 1 lists none
    listed = (CONFIG, *(files if isinstance(files, dict) else ()), config.get("data"))
    # Only names that we give: a config that lists another one lays no claim to it.
    names = (f"{prefix}{name}" for name in (*_FILES, *DATA_FILES) if name in listed)
    return {name for name in names if (folder / name).is_file()}


def saved_data_file(folder: Path, prefix: str = "") -> Path | None:
    """Return the file with the data that was saved beside a checkpoint, if there is one."""
    ours = own_files(folder, prefix)
    return next((folder / f"{prefix}{name}" for name in DATA_FILES if f"{prefix}{name}" in ours), None)


def require_writable(folder: Path, overwrite: bool, prefix: str = "", others: Iterable[str] = ()) -> None:
    """Refuse a place that cannot be written, or where something else would be lost, before any work is done.

    Parameters
    ----------
    folder
        The folder wanted.
    overwrite
        Whether it may exist already.
    prefix
        What file names begin with.
    others
        Names, without prefix, of files to be written besides those that every checkpoint has.

    Raises
    ------
    CheckpointError
        When ``folder`` exists and may not, cannot be made, or has files of ours by name that no checkpoint lists.
    """
    if not os.path.lexists(folder):
        if found := obstacle(folder):
            raise CheckpointError(f"Expected a folder in which to make {folder}, found {found}; choose another folder.")
        return
    if not overwrite:
        raise CheckpointError(
            f"Expected a folder that does not exist yet, found {folder}; choose another, or overwrite it "
            "(overwrite=True; on the command line --overwrite)."
        )
    if found := no_folder(folder):
        raise CheckpointError(f"{folder}: expected a folder, found {found}, which would be lost; choose another name.")
    if not os.access(folder, os.W_OK):
        raise CheckpointError(f"Expected a folder that may be written, found that {folder} may not; choose another.")
    ours = own_files(folder, prefix)
    wanted = [f"{prefix}{name}" for name in (*_FILES, *others)]
    strange = [name for name in wanted if os.path.lexists(folder / name) and name not in ours]
    if strange:
        raise CheckpointError(
            f"{folder}: expected files of a checkpoint to replace, found {', '.join(strange)} of something else, which "
            "would be lost; choose another folder, or a prefix for the names."
        )


@contextmanager
def prepared_folder(folder: Path, prefix: str = "") -> Iterator[Path]:
    """Give an empty folder to fill with the files of a checkpoint; on leaving, they take their place in ``folder``.

    Where ``folder`` holds nothing but the checkpoint that is replaced, the whole folder is swapped. Otherwise the files
    are renamed one by one, ``config.json`` first: interrupted between two of them, the digests in it tell that the
    others do not belong to it. What fails leaves all as it was.

    Raises
    ------
    CheckpointError
        When nothing can be written there.
    """
    folder = folder.absolute()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        place = folder.parent if _may_be_swapped(folder) else folder
        temporary = tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=place)
    except OSError as error:  # a place may refuse what its permissions allow
        raise CheckpointError(
            f"Expected a place where {folder} can be written, found one where it cannot ({error.strerror}); choose "
            "another."
        ) from error
    with temporary as name:
        made, previous = Path(name) / "made", Path(name) / "previous"
        made.mkdir()
        yield made
        ours = own_files(folder, prefix) - {f"{prefix}{data}" for data in DATA_FILES}
        new = {file.name for file in made.iterdir()}
        if place != folder and _entries(folder) <= ours | new:
            _swap(made, folder, previous)
        else:
            _replace_files(made, folder, previous, sorted(ours | new, key=lambda file: file != f"{prefix}{CONFIG}"))


def _may_be_swapped(folder: Path) -> bool:
    """Whether it is a folder like others, in one that can be written, and nobody stands in it."""
    special = folder.is_symlink() or folder.is_mount() or Path.cwd().is_relative_to(folder.resolve())
    return not special and os.access(folder.parent, os.W_OK)


def _entries(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()} if folder.exists() else set()


def _swap(made: Path, folder: Path, previous: Path) -> None:
    try:
        if folder.exists():
            folder.rename(previous)
        made.rename(folder)
    except BaseException:
        # A signal may come when the first one is done, or the second.
        if previous.exists() and not folder.exists():
            previous.rename(folder)
        raise


def _replace_files(made: Path, folder: Path, previous: Path, names: list[str]) -> None:
    """Rename each of ``names`` from ``made`` into ``folder``; those that ``made`` lacks leave ``folder``."""
    previous.mkdir()
    done = []
    try:
        for name in names:
            if (folder / name).exists():
                # Whatever ends the process, a config stays there: without it nothing would be ours.
                keep = shutil.copy2 if name.endswith(CONFIG) else os.replace
                keep(folder / name, previous / name)
            done.append(name)
            if (made / name).exists():
                (made / name).replace(folder / name)
    except BaseException:
        for name in done:
            if (previous / name).exists():
                (previous / name).replace(folder / name)
            elif not (made / name).exists():
                (folder / name).unlink(missing_ok=True)
        raise
