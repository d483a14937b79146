"""How long a client waits for an endpoint: for one answer, between two tries, and for a query as a whole."""

from __future__ import annotations

import random
import threading
import time

from totalanvi.serving.errors import DeadlineError

__all__ = ["Patience"]

_FIRST_WAIT = 0.25
_LONGEST_BACK_OFF = 10.0
_LONGEST_WAIT = 120.0
"""Whoever is told to wait longer is told by an error: a quota is not outwaited."""


class Patience:
    """Patience for one query, or for what is asked beside queries; shared by all threads that ask for it.

    Parameters
    ----------
    seconds
        For all of it; None for any time.

    Examples
    --------
    >>> Patience(seconds=60).remaining(120) <= 60
    True
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._seconds = seconds
        self._ends = None if seconds is None else time.monotonic() + seconds
        self._given_up = threading.Event()

    def give_up(self) -> None:
        """End all waiting: nobody wants the answer any more."""
        self._given_up.set()

    def remaining(self, seconds: float) -> float:
        """Return how many of some seconds may be waited.

        Raises
        ------
        DeadlineError
            When none may.
        """
        if self._given_up.is_set():
            raise DeadlineError("Expected to map the query to its end, found that it was given up; map it again.")
        if self._ends is None:
            return seconds
        left = self._ends - time.monotonic()
        if left <= 0:
            raise DeadlineError(
                f"Expected the query to be mapped within {self._seconds:g} s, found it unfinished; allow more "
                "(deadline=), or look at the endpoint's load."
            )
        return min(seconds, left)

    def can_wait(self, seconds: float) -> bool:
        """Tell whether it makes sense to come back after some seconds."""
        return seconds <= _LONGEST_WAIT and (self._ends is None or time.monotonic() + seconds < self._ends)

    def wait(self, attempt: int, announced: float) -> None:
        """Wait before the next try.

        Parameters
        ----------
        attempt
            How often it was tried: waits double, and are scattered so that clients do not come back all at once.
        announced
            Seconds that the endpoint asked for, at least.

        Raises
        ------
        DeadlineError
            When the time is over, or the query was given up.
        """
        scattered = min(_LONGEST_BACK_OFF, _FIRST_WAIT * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)  # noqa: S311
        self._given_up.wait(self.remaining(max(announced, scattered)))
        self.remaining(0)
