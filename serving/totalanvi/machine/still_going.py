"""A sign of life from work that takes minutes and has no steps to count, or no terminal to count them on."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["at_terminal", "still_going"]

_EVERY = 30.0


def at_terminal() -> bool:
    """Tell whether standard error is a terminal, where bars can move."""
    return sys.stderr.isatty()


@contextmanager
def still_going(doing: Callable[[], str], every: float = _EVERY, *, unless_terminal: bool = False) -> Iterator[None]:
    """Say on standard error now and then, while the block runs, what is being done and for how long.

    Parameters
    ----------
    doing
        Returns what it is.
    every
        Seconds from one line to the next.
    unless_terminal
        Whether nothing is said where standard error is a terminal.

    Examples
    --------
    >>> with still_going(lambda: "Fitting the readout"):  # doctest: +SKIP
    ...     model.fit_readout()
    Fitting the readout: 30 s so far
    """
    if unless_terminal and at_terminal():
        yield
        return
    done = threading.Event()
    started = time.monotonic()

    def tell() -> None:
        while not done.wait(every):
            print(f"{doing()}: {time.monotonic() - started:.0f} s so far", file=sys.stderr, flush=True)

    teller = threading.Thread(target=tell, name="totalanvi-still-going", daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()
