"""The place of what is exported."""

from __future__ import annotations

from pathlib import Path

from totalanvi.export.errors import TargetError

__all__ = ["make_parents"]


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
