"""A terminal to which standard error goes."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

__all__ = ["Shown", "at_a_terminal"]


class Shown:
    """What a terminal has shown; complete when it is closed."""

    text: str = ""


@contextmanager
def at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shown]:
    """Let standard error be a terminal, and read along, as one that nobody reads is full soon."""
    ours, theirs = os.openpty()
    shown, pieces = Shown(), bytearray()

    def read() -> None:
        try:
            while piece := os.read(ours, 4096):
                pieces.extend(piece)
        except OSError:  # Linux says so when the other end has closed.
            pass

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with os.fdopen(theirs, "w") as stream, monkeypatch.context() as patched:
            patched.setattr("sys.stderr", stream)
            yield shown
    finally:
        reader.join()
        os.close(ours)
        shown.text = pieces.decode()
