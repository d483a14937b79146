"""A bounded queue for heavy work, which keeps the event loop free and refuses what would wait too long."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from types import TracebackType
from typing import Any, TypeVar

from totalanvi.serving.errors import BusyError, NotReadyError

__all__ = ["Slot", "WorkQueue"]

_LONGEST_WAIT = 60
_SMOOTHING = 0.2
_READERS = 2

Answer = TypeVar("Answer")


class WorkQueue:
    """Runs heavy work in a few threads, so that the event loop stays free, and refuses what would wait too long.

    A request takes a `Slot` once its body is there and gives it back when its work has ended, even when nobody waits
    for the answer any more: memory and threads stay bounded by the number of slots. Bodies are understood in threads of
    their own, so that what cannot be mapped is told at once, and what can is weighed before it waits. Used from one
    event loop.

    Parameters
    ----------
    workers
        Threads.
    waiting
        Slots beyond those.
    max_cost
        What requests that are computed or wait may cost together, in whatever unit `Slot.charge` is told; a single
        request may cost more.

    Examples
    --------
    >>> async def answer(queue: WorkQueue) -> int:
    ...     with queue.admit() as slot:
    ...         return await slot.run(lambda: 6 * 7)
    >>> asyncio.run(answer(WorkQueue(workers=1, waiting=0)))
    42
    """

    def __init__(self, workers: int, waiting: int, max_cost: int | None = None) -> None:
        self._workers = workers
        self._slots = workers + waiting
        self._max_cost = max_cost
        self._taken = 0
        self._cost = 0
        self._seconds_per_unit = 0.0
        self._seconds = 1.0
        self._draining = False
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="totalanvi")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="totalanvi-read")

    @property
    def taken(self) -> int:
        """Requests that have a slot: those computed and those that wait."""
        return self._taken

    @property
    def cost(self) -> int:
        """What they cost together, as far as it is known."""
        return self._cost

    @property
    def draining(self) -> bool:
        """Whether nothing new is taken in."""
        return self._draining

    def admit(self) -> Slot:
        """Return a slot, to be used in a ``with`` statement.

        Raises
        ------
        BusyError
            When all are taken.
        NotReadyError
            When the queue is draining.
        """
        self.require_room()
        self._taken += 1
        return Slot(self)

    def require_room(self) -> None:
        """Refuse what `admit` would, without taking a slot."""
        if self._draining:
            raise NotReadyError("The endpoint is shutting down; ask again in some seconds, or ask another one.")
        if self._taken >= self._slots:
            raise self._busy(f"at most {self._slots} requests at a time, found as many at work", 0)

    def drain(self) -> None:
        """Take in nothing new; what has a slot is still answered."""
        self._draining = True

    def close(self) -> None:
        """Drop what waits, and let what runs end by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._readers.shutdown(wait=False, cancel_futures=True)

    def _busy(self, expected: str, cost: int) -> BusyError:
        """Say when to come back: about when what is here now will be done."""
        by_number, by_cost = self._seconds * self._taken, self._seconds_per_unit * (self._cost + cost)
        seconds = min(_LONGEST_WAIT, max(1, math.ceil(max(by_number, by_cost) / self._workers)))
        return BusyError(f"Expected {expected}; ask again in {seconds} s.", retry_after=seconds)

    def _charge(self, cost: int) -> None:
        if self._max_cost is not None and self._cost and self._cost + cost > self._max_cost:
            found = f"found {self._cost} at work and {cost} asked for"
            raise self._busy(f"work of at most {self._max_cost} units at a time, {found}", cost)
        self._cost += cost

    def _learn(self, seconds: float, cost: int) -> None:
        self._seconds += _SMOOTHING * (seconds - self._seconds)
        if cost:
            each = seconds / cost
            known = self._seconds_per_unit or each
            self._seconds_per_unit = known + _SMOOTHING * (each - known)

    def _release(self, slot: Slot) -> None:
        self._taken -= 1
        self._cost -= slot.cost
        for give_back in slot._at_end:
            give_back()


class Slot:
    """One request's place in a `WorkQueue`.

    Attributes
    ----------
    abandoned : threading.Event
        Set once nobody waits for the answer any more: work that looks at it can end early.
    cost : int
        What `charge` was told.
    wait_seconds : float
        How long the work that `run` was last given has waited for a thread.
    """

    def __init__(self, queue: WorkQueue) -> None:
        self._queue = queue
        self._work: Future[Any] | None = None
        self._at_end: list[Callable[[], None]] = []
        self.abandoned = threading.Event()
        self.cost = 0
        self.wait_seconds = 0.0

    def charge(self, cost: int) -> None:
        """Say what the work will cost.

        Raises
        ------
        BusyError
            When that is too much beside what is at work and waits already.
        """
        self._queue._charge(cost)
        self.cost += cost

    def at_end(self, give_back: Callable[[], None]) -> None:
        """Have a function called when the slot is given back, in the event loop."""
        self._at_end.append(give_back)

    async def read(self, work: Callable[[], Answer]) -> Answer:
        """Run what understands a request, in a thread beside those that compute."""
        return await self._wait_for(self._queue._readers, work)

    async def run(self, work: Callable[[], Answer]) -> Answer:
        """Run in a thread and wait for the result; work that has not begun when the waiting is cancelled never does."""
        asked = time.perf_counter()

        def timed() -> Answer:
            started = time.perf_counter()
            self.wait_seconds = started - asked
            try:
                return work()
            finally:
                self._queue._learn(time.perf_counter() - started, self.cost)

        return await self._wait_for(self._queue._threads, timed)

    async def _wait_for(self, threads: ThreadPoolExecutor, work: Callable[[], Answer]) -> Answer:
        # With its context, so that what is logged there knows which request it belongs to.
        future = threads.submit(copy_context().run, work)
        self._work = future
        return await asyncio.wrap_future(future)

    def __enter__(self) -> Slot:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._work is None or self._work.done():
            self._queue._release(self)
            return
        # A thread cannot be stopped, only asked to: the slot stays taken for as long as it computes.
        self.abandoned.set()
        loop = asyncio.get_running_loop()
        self._work.add_done_callback(lambda _: loop.call_soon_threadsafe(self._queue._release, self))
