"""How long a client waits for an endpoint: for one answer, between two tries, and for a query as a whole."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field

from totalanvi.serving.errors import DeadlineError, OutOfTimeError

__all__ = ["Deadline", "Patience"]

_FIRST_WAIT = 0.25
_LONGEST_BACK_OFF = 10.0
_LONGEST_WAIT = 120.0
"""Whoever is told to wait longer is told by an error: a quota is not outwaited."""


@dataclass(frozen=True)
class Deadline:
    """Time for something that several processes do, each of which has a patience of its own.

    Parameters
    ----------
    seconds
        For all of it.
    began
        When it began, in seconds since 1970: no other clock is common to processes.

    Examples
    --------
    >>> Deadline(60).patience().remaining(120) <= 60
    True
    """

    seconds: float
    began: float = field(default_factory=time.time)

    def patience(self) -> Patience:
        """Return the patience for what is left of it."""
        return Patience(self.seconds, max(0.0, time.time() - self.began))


class Patience:
    """Patience for one query, or for what is asked beside queries; shared by all threads that ask for it.

    Parameters
    ----------
    seconds
        For all of it; None for any time.
    passed
        How many of them are over already.

    Examples
    --------
    >>> Patience(seconds=60).remaining(120) <= 60
    True
    """

    def __init__(self, seconds: float | None = None, passed: float = 0.0) -> None:
        self._seconds = seconds
        self._ends = None if seconds is None else time.monotonic() + seconds - passed
        self._given_up = threading.Event()

    def give_up(self) -> None:
        """End all waiting: nobody wants the answer any more."""
        self._given_up.set()

    def remaining(self, seconds: float) -> float:
        """Return how many of some seconds may be waited.

        Raises
        ------
        OutOfTimeError
            When the time is over.
        DeadlineError
            When the query was given up.
        """
        if self._given_up.is_set():
            raise DeadlineError("Expected to map the query to its end, found that it was given up; map it again.")
        if self._ends is None:
            return seconds
        left = self._ends - time.monotonic()
        if left <= 0:
            raise self._out_of_time()
        return min(seconds, left)

    def can_wait(self, seconds: float) -> bool:
        """Tell whether whoever is told to come back after some seconds does, if there is time."""
        return seconds <= _LONGEST_WAIT

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
        OutOfTimeError
            When the time is over, or would be then.
        DeadlineError
            When the query was given up.
        """
        scattered = min(_LONGEST_BACK_OFF, _FIRST_WAIT * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)  # noqa: S311
        seconds = max(announced, scattered)
        if self.remaining(seconds) < seconds:
            raise self._out_of_time()
        self._given_up.wait(seconds)
        self.remaining(0)

    def _out_of_time(self) -> OutOfTimeError:
        return OutOfTimeError(
            f"Expected to be done within {self._seconds:g} s; found that cells are left. Allow more (deadline=, "
            "--deadline), or look at the endpoint's load."
        )
