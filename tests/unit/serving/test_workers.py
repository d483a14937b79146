"""Blocks that are computed and finished by several threads."""

from __future__ import annotations

import threading
import time

import pytest

from totalanvi.serving.engine.workers import Workers

WAYS = [(1, None), (3, None), (1, 1), (3, 2)]


@pytest.mark.parametrize(("threads", "lanes"), WAYS)
def test_each_block_is_finished_once(threads: int, lanes: int | None) -> None:
    finished: list[int] = []
    workers = Workers(threads, lanes)
    workers.through(lambda block: 10 * block, finished.append, range(20))
    assert sorted(finished) == [10 * block for block in range(20)]
    workers.through(lambda block: block, finished.append, [])
    assert len(finished) == 20


@pytest.mark.parametrize("side", ["compute", "finish"])
@pytest.mark.parametrize(("threads", "lanes"), WAYS)
def test_what_fails_on_either_side_is_raised_and_ends_the_rest(threads: int, lanes: int | None, side: str) -> None:
    begun: list[int] = []
    failed = threading.Event()

    def fail(block: int) -> None:
        failed.set()
        raise ArithmeticError(f"block {block}")

    def compute(block: int) -> int:
        begun.append(block)
        if side == "compute" and block == 0:
            fail(block)
        # Others go on only once it has failed, so that they cannot all be done by then.
        if block > 0:
            assert failed.wait(30)
        return block

    def finish(block: int) -> None:
        if block == 0:
            fail(block)

    with pytest.raises(ArithmeticError, match="block 0"):
        Workers(threads, lanes).through(compute, finish, range(20_000))
    assert len(begun) < 20_000


@pytest.mark.parametrize(("threads", "lanes"), [(3, None), (1, 2), (3, 2)])
def test_nothing_goes_on_once_an_error_is_raised(threads: int, lanes: int | None) -> None:
    begun: list[int] = []
    ended: list[int] = []
    finishing = threading.Event()

    def compute(block: int) -> int:
        if block == 0:
            assert finishing.wait(30)
            raise ArithmeticError("block 0")
        return block

    def finish(block: int) -> None:
        begun.append(block)
        finishing.set()
        # Long enough for the error to overtake it.
        time.sleep(0.2)
        ended.append(block)

    workers = Workers(threads, lanes)
    with pytest.raises(ArithmeticError, match="block 0"):
        workers.through(compute, finish, range(20))
    known = sorted(begun)
    assert sorted(ended) == known
    # Whatever still waited for a thread would be done before these.
    workers.through(lambda block: block, lambda _: None, range(20))
    assert sorted(begun) == sorted(ended) == known
    assert 0 not in known


def test_no_more_is_computed_ahead_than_threads_keep_up_with() -> None:
    computed: list[int] = []
    go_on = threading.Event()

    def compute(block: int) -> int:
        computed.append(block)
        return block

    def finish(_: int) -> None:
        assert go_on.wait(30)

    through = threading.Thread(target=Workers(2, lanes=2).through, args=(compute, finish, range(100)))
    through.start()
    # Two lanes, and one for each two threads that finish.
    while len(computed) < 3:
        time.sleep(0.01)
    time.sleep(0.2)
    assert len(computed) == 3
    go_on.set()
    through.join(30)
    assert sorted(computed) == list(range(100))
