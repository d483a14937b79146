"""Who computes the blocks of a query, and who finishes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Semaphore
from typing import TypeVar

__all__ = ["Workers"]

_Block = TypeVar("_Block")
_Part = TypeVar("_Part")


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
    >>> Workers(2, lanes=1).through(lambda block: [block, block + 1], told.append, [10, 20])
    >>> sorted(told)
    [10, 11, 20, 21]
    """

    def __init__(self, threads: int, lanes: int | None = None) -> None:
        self._threads, self.n_blocks = threads, lanes or threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="totalanvi-engine")
        self._lanes = None if lanes is None else ThreadPoolExecutor(lanes, thread_name_prefix="totalanvi-engine-lane")

    def through(
        self, compute: Callable[[_Block], list[_Part]], finish: Callable[[_Part], None], blocks: Sequence[_Block]
    ) -> None:
        """Compute the blocks of a query and finish their parts; what has not begun does not begin after an error.

        Parameters
        ----------
        compute
            Computes a block, and returns its parts.
        finish
            Does the rest for a part.
        blocks
            Of the query.
        """
        if self._lanes is not None:
            self._side_by_side(self._lanes, compute, finish, blocks)
            return

        def both(block: _Block) -> None:
            for part in compute(block):
                finish(part)

        if len(blocks) == 1 or self._threads == 1:
            # Here, rather than in another thread that this one waits for.
            for block in blocks:
                both(block)
        else:
            list(self._pool.map(both, blocks))

    def _side_by_side(
        self,
        lanes: ThreadPoolExecutor,
        compute: Callable[[_Block], list[_Part]],
        finish: Callable[[_Part], None],
        blocks: Sequence[_Block],
    ) -> None:
        """Finish what is computed while further blocks are: as many ahead as keep all threads busy, and no more."""
        ahead = Semaphore(self.n_blocks + self._threads // 2)

        def begin(block: _Block) -> list[Future[None]]:
            ahead.acquire()
            try:
                parts = compute(block)
            except BaseException:
                ahead.release()
                raise
            left = iter(reversed(range(len(parts))))

            def count(_: Future[None]) -> None:
                if next(left) == 0:
                    ahead.release()

            begun = [self._pool.submit(finish, part) for part in parts]
            for each in begun:
                each.add_done_callback(count)
            return begun

        begun = [lanes.submit(begin, block) for block in blocks]
        try:
            for parts in begun:
                for part in parts.result():
                    part.result()
        finally:
            for parts in begun:
                parts.cancel()
