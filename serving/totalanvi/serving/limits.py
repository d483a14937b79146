"""What an endpoint accepts, and how it refuses the rest: limits from the environment, and a bounded queue for work."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from totalanvi.serving.errors import BusyError, SettingsError

__all__ = ["Limits", "Slot", "WorkQueue"]

PREFIX = "TOTALANVI_"
"""Of the environment variables: ``TOTALANVI_MAX_CELLS`` sets `Limits.max_cells`, and so on."""

_LONGEST_WAIT = 60
_SMOOTHING = 0.2

Answer = TypeVar("Answer")


class Limits(BaseModel):
    """How much an endpoint takes on at a time; each is set by the environment variable of its name.

    Examples
    --------
    >>> Limits.from_environment({"TOTALANVI_MAX_CELLS": "100"}).max_cells
    100
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    max_body_bytes: int = Field(default=64 * 2**20, ge=1024)
    """Size of one request's body, as sent and once decompressed."""
    max_json_bytes: int = Field(default=4 * 2**20, ge=1024)
    """Size of one JSON body: JSON is for a few cells, and costs ten times its size to read."""
    max_cells: int = Field(default=8192, ge=1)
    """Cells in one request."""
    max_concurrency: int = Field(default=2, ge=1)
    """Requests computed at the same time; each of them uses all cores where it can."""
    max_queue: int = Field(default=32, ge=0)
    """Requests that may wait for those; one more is answered 429."""
    request_seconds: float = Field(default=120, gt=0)
    """Time for one request from its first byte to its answer, waiting included; past it the answer is 504."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Limits:
        """Read the limits, with defaults for those that are not set.

        Parameters
        ----------
        environment
            Such as `os.environ`.

        Raises
        ------
        SettingsError
            When a value is no number, or out of range.
        """
        values = {name: environment[variable(name)] for name in cls.model_fields if variable(name) in environment}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            name = str(first["loc"][0])
            raise SettingsError(
                f"{variable(name)}: expected a number in range, found {values[name]!r} ({first['msg']}); "
                "set it to another value, or leave it out."
            ) from error


def variable(name: str) -> str:
    """Return the environment variable that sets a limit."""
    return PREFIX + name.upper()


class WorkQueue:
    """Runs heavy work in a few threads, so that the event loop stays free, and refuses what would wait too long.

    A request takes a `Slot` before its body is read and gives it back when its work has ended, even when nobody waits
    for the answer any more: memory and threads stay bounded by the number of slots. Used from one event loop.

    Parameters
    ----------
    workers
        Threads.
    waiting
        Slots beyond those.

    Examples
    --------
    >>> async def answer(queue: WorkQueue) -> int:
    ...     with queue.admit() as slot:
    ...         return await slot.run(lambda: 6 * 7)
    >>> asyncio.run(answer(WorkQueue(workers=1, waiting=0)))
    42
    """

    def __init__(self, workers: int, waiting: int) -> None:
        self._workers = workers
        self._slots = workers + waiting
        self._taken = 0
        self._seconds = 1.0
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="totalanvi")

    @property
    def taken(self) -> int:
        """Requests that have a slot: those computed and those that wait."""
        return self._taken

    def admit(self) -> Slot:
        """Return a slot, to be used in a ``with`` statement.

        Raises
        ------
        BusyError
            When all are taken.
        """
        if self._taken >= self._slots:
            seconds = min(_LONGEST_WAIT, max(1, math.ceil(self._seconds * self._taken / self._workers)))
            raise BusyError(
                f"Expected at most {self._slots} requests at a time, found as many at work; ask again in {seconds} s.",
                retry_after=seconds,
            )
        self._taken += 1
        return Slot(self)

    def close(self) -> None:
        """Drop what waits, and let what runs end by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _submit(self, work: Callable[[], Answer]) -> Future[Answer]:
        return self._threads.submit(self._timed, work)

    def _timed(self, work: Callable[[], Answer]) -> Answer:
        started = time.perf_counter()
        try:
            return work()
        finally:
            self._seconds += _SMOOTHING * (time.perf_counter() - started - self._seconds)

    def _release(self) -> None:
        self._taken -= 1


class Slot:
    """One request's place in a `WorkQueue`."""

    def __init__(self, queue: WorkQueue) -> None:
        self._queue = queue
        self._work: Future[Any] | None = None

    async def run(self, work: Callable[[], Answer]) -> Answer:
        """Run in a thread and wait for the result; work that has not begun when the waiting is cancelled never does."""
        future = self._queue._submit(work)
        self._work = future
        return await asyncio.wrap_future(future)

    def __enter__(self) -> Slot:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._work is None or self._work.done():
            self._queue._release()
            return
        # A thread cannot be stopped: the slot stays taken for as long as it computes.
        loop = asyncio.get_running_loop()
        self._work.add_done_callback(lambda _: loop.call_soon_threadsafe(self._queue._release))
