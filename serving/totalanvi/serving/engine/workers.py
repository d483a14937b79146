"""Who computes the blocks of a query, and who finishes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from threading import Event, Semaphore
from typing import TypeVar

__all__ = ["Workers"]

_Block = TypeVar("_Block")
_Computed = TypeVar("_Computed")


class Workers:
    """Threads that several queries share.

    Parameters
    ----------
    threads
        How many.
    lanes
        Blocks that are computed at a time by threads of their own, beside those that finish them; None where a thread
        finishes what it computed.

    Attributes
    ----------
    n_blocks : int
        Blocks that are computed at a time.

    Examples
    --------
    >>> told = []
    >>> Workers(2, lanes=1).through(lambda block: block + 1, told.append, [10, 20])
    >>> sorted(told)
    [11, 21]
    """

    def __init__(self, threads: int, lanes: int | None = None) -> None:
        self._threads, self.n_blocks = threads, lanes or threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="totalanvi-engine")
        self._lanes = None if lanes is None else ThreadPoolExecutor(lanes, thread_name_prefix="totalanvi-engine-lane")

    def through(
        self, compute: Callable[[_Block], _Computed], finish: Callable[[_Computed], None], blocks: Sequence[_Block]
    ) -> None:
        """Compute the blocks of a query and finish them; after an error no more begin, and those that run are awaited.

        Parameters
        ----------
        compute
            Computes a block.
        finish
            Does the rest for it.
        blocks
            Of the query.
        """
        if self._lanes is not None:
            self._side_by_side(self._lanes, compute, finish, blocks)
            return

        def both(block: _Block) -> None:
            finish(compute(block))

        if len(blocks) == 1 or self._threads == 1:
            # Here, rather than in another thread that this one waits for.
            for block in blocks:
                both(block)
        else:
            begun = [self._pool.submit(both, block) for block in blocks]
            try:
                for each in begun:
                    each.result()
            finally:
                # The last first: threads take the first ones meanwhile.
                wait([each for each in reversed(begun) if not each.cancel()])

    def _side_by_side(
        self,
        lanes: ThreadPoolExecutor,
        compute: Callable[[_Block], _Computed],
        finish: Callable[[_Computed], None],
        blocks: Sequence[_Block],
    ) -> None:
        """Finish what is computed while further blocks are: as many ahead as keep all threads busy, and no more."""
        ahead, ended = Semaphore(self.n_blocks + self._threads // 2), Event()

        def begin(block: _Block) -> Future[None]:
            ahead.acquire()
            try:
                if ended.is_set():
                    raise CancelledError
                finished = self._pool.submit(finish, compute(block))
            except BaseException:
                ahead.release()
                raise
            finished.add_done_callback(lambda _: ahead.release())
            return finished

        begun = [lanes.submit(begin, block) for block in blocks]
        try:
            for each in begun:
                each.result().result()
        finally:
            ended.set()
            running = [each for each in reversed(begun) if not each.cancel()]
            wait(running)
            finishing = [each.result() for each in running if each.exception() is None]
            wait([each for each in finishing if not each.cancel()])
