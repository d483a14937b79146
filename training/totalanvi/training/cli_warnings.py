"""Warnings on the command line: one line each, on standard error."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import typer

__all__ = ["told_warnings"]


@contextmanager
def told_warnings() -> Iterator[None]:
    """Tell what our code warns of in the block, when the block is done; warnings meant for programmers are left out."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            typer.echo(f"Warning: {warning.message}", err=True)
