"""A bounded queue for heavy work, which keeps the event loop free and refuses what would wait too long."""

from __future__ import annotations

import asyncio
import contextvars
import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

from totalanvi.serving.errors import BusyError

__all__ = ["Slot", "WorkQueue"]

_LONGEST_WAIT = 60
_SMOOTHING = 0.2

Answer = TypeVar("Answer")


class WorkQueue:
    """Runs heavy work in a few threads, so that the event loop stays free, and refuses what would wait too long.

    A request takes a `Slot` once its body is there and gives it back when its work has ended, even when nobody waits
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
        self.require_room()
        self._taken += 1
        return Slot(self)

    def require_room(self) -> None:
        """Refuse when all slots are taken, without taking one.

        Raises
        ------
        BusyError
            Which says when to ask again.
        """
        if self._taken < self._slots:
            return
        seconds = min(_LONGEST_WAIT, max(1, math.ceil(self._seconds * self._taken / self._workers)))
        raise BusyError(
            f"Expected at most {self._slots} requests at a time, found as many at work; ask again in {seconds} s.",
            retry_after=seconds,
        )

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
        # Whom the request is charged to goes along.
        context = contextvars.copy_context()
        future = self._queue._submit(lambda: context.run(work))
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
