"""Warnings on the command line: one line each, on standard error."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

__all__ = ["told_warnings"]


def _tell(message: str) -> None:
    typer.echo(message, err=True)


@contextmanager
def told_warnings(tell: Callable[[str], None] = _tell) -> Iterator[None]:
    """Tell what our code warns of in the block, when the block is done; warnings meant for programmers are left out."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            tell(f"Warning: {warning.message}")
