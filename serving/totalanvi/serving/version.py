"""The version of this software."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

__all__ = ["software_version"]


def software_version() -> str:
    """Return the installed version, or that of ``pyproject.toml`` where the source runs as it is, as in a Bento.

    Examples
    --------
    >>> software_version()  # doctest: +SKIP
    '0.1.0'
    """
    try:
        return metadata.version("totalanvi")
    except metadata.PackageNotFoundError:
        project = Path(__file__).parents[3] / "pyproject.toml"
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])
