"""The queue that holds work within its limits; for how these are set see test_settings.py."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from totalanvi.serving.endpoint.work_queue import WorkQueue
from totalanvi.serving.errors import BusyError, NotReadyError


def test_work_runs_off_the_event_loop() -> None:
    async def where() -> tuple[int, int]:
        queue = WorkQueue(workers=1, waiting=0)
        with queue.admit() as slot:
            return await slot.run(threading.get_ident), threading.get_ident()

    worker, loop = asyncio.run(where())

    assert worker != loop


def test_errors_of_the_work_come_through_and_free_the_slot() -> None:
    async def fail() -> int:
        queue = WorkQueue(workers=1, waiting=0)
        with pytest.raises(ZeroDivisionError), queue.admit() as slot:
            await slot.run(lambda: 1 // 0)
        return queue.taken

    assert asyncio.run(fail()) == 0


def test_what_would_wait_too_long_is_refused_at_once() -> None:
    async def crowd() -> tuple[int, BusyError]:
        queue = WorkQueue(workers=1, waiting=2)
        with queue.admit(), queue.admit(), queue.admit():
            with pytest.raises(BusyError) as caught:
                queue.admit()
            taken = queue.taken
        assert queue.taken == 0
        return taken, caught.value

    taken, error = asyncio.run(crowd())

    assert taken == 3
    assert error.http_status == 429
    assert error.retry_after >= 1


def test_a_slot_that_was_never_used_is_given_back() -> None:
    async def leave() -> int:
        queue = WorkQueue(workers=1, waiting=0)
        with queue.admit():
            pass
        return queue.taken

    assert asyncio.run(leave()) == 0


async def in_slot(queue: WorkQueue, work: Callable[[], object]) -> None:
    async with asyncio.timeout(0.05):
        with queue.admit() as slot:
            await slot.run(work)


def test_work_that_nobody_waits_for_keeps_its_slot_until_it_ends() -> None:
    release = threading.Event()

    async def abandon() -> tuple[int, int]:
        queue = WorkQueue(workers=1, waiting=0)
        with pytest.raises(TimeoutError):
            await in_slot(queue, release.wait)
        during = queue.taken
        release.set()
        for _ in range(500):
            if not queue.taken:
                break
            await asyncio.sleep(0.01)
        return during, queue.taken

    assert asyncio.run(abandon()) == (1, 0)


def test_work_that_was_given_up_before_it_began_never_runs() -> None:
    release = threading.Event()
    ran: list[str] = []

    async def give_up() -> int:
        queue = WorkQueue(workers=1, waiting=1)
        with queue.admit() as first:
            running = asyncio.ensure_future(first.run(release.wait))
            await asyncio.sleep(0.05)
            with pytest.raises(TimeoutError):
                await in_slot(queue, lambda: ran.append("second"))
            taken = queue.taken
            release.set()
            await running
        return taken

    assert asyncio.run(give_up()) == 1
    assert ran == []


def test_a_closed_queue_drops_what_waits() -> None:
    release = threading.Event()

    async def close() -> None:
        queue = WorkQueue(workers=1, waiting=1)
        with queue.admit() as first, queue.admit() as second:
            running = asyncio.ensure_future(first.run(release.wait))
            waiting = asyncio.ensure_future(second.run(release.wait))
            await asyncio.sleep(0.05)
            queue.close()
            release.set()
            assert await running
            with pytest.raises(asyncio.CancelledError):
                await waiting

    asyncio.run(close())


def test_the_unit_of_the_queue_is_what_work_costs_not_how_many_ask() -> None:
    async def crowd() -> tuple[int, BusyError, int]:
        queue = WorkQueue(workers=1, waiting=10, max_cost=100)
        with queue.admit() as large, queue.admit() as small, queue.admit() as next_one:
            large.charge(90)
            small.charge(10)
            with pytest.raises(BusyError) as caught:
                next_one.charge(1)
            during = queue.cost
        return during, caught.value, queue.cost

    during, error, after = asyncio.run(crowd())

    assert (during, after) == (100, 0)
    assert "found 100 at work and 1 asked for" in str(error)
    assert error.retry_after >= 1


def test_what_alone_costs_more_than_the_queue_takes_is_computed_alone() -> None:
    async def ask() -> int:
        queue = WorkQueue(workers=1, waiting=1, max_cost=100)
        with queue.admit() as slot:
            slot.charge(1000)
            return await slot.run(lambda: 42)

    assert asyncio.run(ask()) == 42


def test_a_request_is_told_to_come_back_when_the_work_will_be_done() -> None:
    async def ask() -> int:
        queue = WorkQueue(workers=1, waiting=10, max_cost=100)
        with queue.admit() as slot:
            slot.charge(1)
            await slot.run(lambda: time.sleep(0.1))
        with queue.admit() as large, queue.admit() as next_one:
            large.charge(100)
            with pytest.raises(BusyError) as caught:
                next_one.charge(50)
        return caught.value.retry_after

    # 150 units at 0.1 s each
    assert 15 <= asyncio.run(ask()) <= 30


def test_bodies_are_read_while_all_workers_compute() -> None:
    async def ask() -> str:
        queue = WorkQueue(workers=1, waiting=1)
        release = threading.Event()
        with queue.admit() as first, queue.admit() as second:
            running = asyncio.ensure_future(first.run(release.wait))
            answer = await second.read(lambda: "read")
            release.set()
            await running
        return answer

    assert asyncio.run(ask()) == "read"


def test_work_is_told_that_nobody_waits_any_more_and_what_it_held_is_given_back() -> None:
    held = ["lease"]

    async def ask() -> bool:
        queue = WorkQueue(workers=1, waiting=0)
        slot = queue.admit()
        slot.at_end(held.clear)
        with pytest.raises(TimeoutError), slot:
            await asyncio.wait_for(slot.run(lambda: slot.abandoned.wait(30)), 0.05)
        told = slot.abandoned.is_set()
        while queue.taken:
            await asyncio.sleep(0.01)
        return told

    assert asyncio.run(ask())
    assert held == []


def test_a_draining_queue_answers_what_it_has_and_takes_in_nothing() -> None:
    async def ask() -> int:
        queue = WorkQueue(workers=1, waiting=5)
        with queue.admit() as slot:
            queue.drain()
            with pytest.raises(NotReadyError, match="shutting down"):
                queue.admit()
            return await slot.run(lambda: 42)

    assert asyncio.run(ask()) == 42
