"""Limits from the environment, and the queue that holds work within them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from totalanvi.serving.endpoint.work_queue import WorkQueue
from totalanvi.serving.errors import BusyError, SettingsError
from totalanvi.serving.wire.limits import Limits


def test_defaults_hold_where_nothing_is_set() -> None:
    assert Limits.from_environment({}) == Limits()


def test_every_limit_is_set_by_its_variable() -> None:
    environment = {f"TOTALANVI_{name.upper()}": "2000" for name in Limits.model_fields}

    assert set(Limits.from_environment(environment).model_dump().values()) == {2000}


def test_other_variables_are_nobodys_business() -> None:
    assert Limits.from_environment({"TOTALANVI_REFERENCE": "bundle", "MAX_CELLS": "1"}) == Limits()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOTALANVI_MAX_CELLS", "many"),
        ("TOTALANVI_MAX_CELLS", "0"),
        ("TOTALANVI_MAX_CONCURRENCY", "-1"),
        ("TOTALANVI_REQUEST_SECONDS", ""),
        ("TOTALANVI_REQUEST_SECONDS", "nan"),
        ("TOTALANVI_MAX_BODY_BYTES", "64MB"),
    ],
)
def test_an_unusable_value_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name) as caught:
        Limits.from_environment({name: value})

    assert repr(value) in str(caught.value)
    assert caught.value.exit_code == 2


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
