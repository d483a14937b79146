"""Where a bundle goes, and what it is called: judged before any work is done."""

from __future__ import annotations

import re
from pathlib import Path

from totalanvi.export.errors import TargetError
from totalanvi.serving.bundles.place import require_place
from totalanvi.serving.errors import OutputError

__all__ = ["checked_name", "make_parents", "require_writable"]

_NAME = re.compile(r"[a-z0-9]([a-z0-9_.-]{0,61}[a-z0-9])?")
_VERSION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
"""What a model store takes."""


def checked_name(target: Path, name: str | None, version: str | None) -> str:
    """Return the name of a reference, from its folder's where none is given.

    Parameters
    ----------
    target
        The bundle's folder.
    name, version
        What the user asked for.

    Raises
    ------
    TargetError
        When a model store would not take the name or the version.
    """
    if name is None:
        # The folder's name, as far as a store takes it.
        name = re.sub(r"[^a-z0-9]+", "-", target.resolve().name.lower()).strip("-")[:63].strip("-") or "reference"
    for what, value, pattern in (("name", name, _NAME), ("version", version, _VERSION)):
        if value is not None and not pattern.fullmatch(value):
            letters = "small letters" if pattern is _NAME else "letters"
            raise TargetError(
                f"{what}: expected at most 63 {letters}, digits, '.', '-' and '_', with a letter or a digit at either "
                f"end, found {value!r}; choose another."
            )
    return name


def require_writable(target: Path, overwrite: bool) -> None:
    """Judge the output before any work is done.

    Raises
    ------
    TargetError
        When it is no folder, holds something else than a bundle, or may not be replaced.
    """
    try:
        require_place(target, overwrite)
    except OutputError as error:
        raise TargetError(str(error)) from None


def make_parents(target: Path) -> None:
    """Make the folders above a folder to be made.

    Raises
    ------
    TargetError
        When they cannot be made.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TargetError(
            f"{target}: expected a place where a folder can be made, found that it cannot ({error.strerror}); choose "
            "another, or change its permissions."
        ) from error
