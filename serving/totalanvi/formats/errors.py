"""What can be wrong with a file or folder of cells."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["FormatError", "reading"]


class FormatError(ValueError):
    """A file or folder that is not what it should be; the message says what was expected, found, and what to do."""


@contextmanager
def reading(path: Path, *known: type[Exception]) -> Iterator[None]:
    """Name the file in whatever a damaged or hostile one makes the libraries raise.

    Parameters
    ----------
    path
        What is read.
    known
        Errors that say already what is wrong, beside `FormatError`.

    Raises
    ------
    FormatError
        For any other exception from within.

    Examples
    --------
    >>> try:
    ...     with reading(Path("query.h5ad")):
    ...         raise KeyError("obs")
    ... except FormatError as error:
    ...     print(str(error)[:54])
    Expected valid cells (AnnData, MuData or a 10x matrix)
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, (FormatError, *known)):
            raise
        raise FormatError(
            f"Expected valid cells (AnnData, MuData or a 10x matrix) in {str(path)!r}; found some that cannot be read "
            f"({type(error).__name__}: {error}). Copy them again, or write them again with a current anndata."
        ) from error
