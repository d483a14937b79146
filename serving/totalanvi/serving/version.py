"""The version of this software."""

from __future__ import annotations

from importlib import metadata

__all__ = ["software_version"]


def software_version() -> str:
    """Return the installed version; "unknown" where the source runs without being installed, as in a built Bento.

    Examples
    --------
    >>> software_version()  # doctest: +SKIP
    '0.1.0'
    """
    try:
        return metadata.version("totalanvi")
    except metadata.PackageNotFoundError:
        return "unknown"
