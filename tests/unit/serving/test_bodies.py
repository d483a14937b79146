"""Bodies that come slowly, never end, or are too many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.requests import ClientDisconnect, Request

from totalanvi.serving.endpoint.bodies import Bodies
from totalanvi.serving.errors import BusyError, DeadlineError, TooLargeError


def request(blocks: AsyncIterator[bytes | None], **headers: str) -> Request:
    """Return a request whose body comes in blocks; after None, the client is gone."""

    async def receive() -> dict[str, object]:
        block = await anext(blocks, b"")
        if block is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": block, "more_body": block != b""}

    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": named}, receive)


async def in_turn(*blocks: bytes | None, pause: float = 0) -> AsyncIterator[bytes | None]:
    for block in blocks:
        await asyncio.sleep(pause)
        yield block


async def forever(pause: float) -> AsyncIterator[bytes | None]:
    while True:
        await asyncio.sleep(pause)
        yield b"x"


def test_blocks_are_joined_in_order() -> None:
    bodies = Bodies(max_arriving_bytes=100)

    assert asyncio.run(bodies.read(request(in_turn(b"one ", b"two ", b"three")), max_bytes=20)) == b"one two three"


def test_what_is_announced_or_comes_beyond_the_limit_is_refused() -> None:
    bodies = Bodies(max_arriving_bytes=100)

    with pytest.raises(TooLargeError, match="at most 5 bytes, found 6 bytes"):
        asyncio.run(bodies.read(request(in_turn(b"123456"), content_length="6"), max_bytes=5))
    with pytest.raises(TooLargeError, match="found more"):
        asyncio.run(bodies.read(request(in_turn(b"123", b"456")), max_bytes=5))


@pytest.mark.parametrize("blocks", [forever(0.02), in_turn(b"a", pause=60)])
def test_a_body_that_trickles_in_is_given_up(blocks: AsyncIterator[bytes | None]) -> None:
    bodies = Bodies(max_arriving_bytes=100, patience_seconds=0.3)

    with pytest.raises(DeadlineError, match=r"within 0\.3 s") as refused:
        asyncio.run(bodies.read(request(blocks), max_bytes=50))

    assert refused.value.http_status == 408


def test_a_large_body_has_more_time() -> None:
    bodies = Bodies(max_arriving_bytes=10_000, patience_seconds=0.3)
    blocks = in_turn(*[bytes(1000)] * 5, pause=0.1)

    assert len(asyncio.run(bodies.read(request(blocks), max_bytes=10_000))) == 5000


def test_all_that_arrive_share_what_they_may_take_and_give_it_back() -> None:
    bodies = Bodies(max_arriving_bytes=70)

    async def three() -> list[bytes | BaseException]:
        each = [bodies.read(request(in_turn(bytes(30), bytes(30), pause=0.05)), max_bytes=60) for _ in range(3)]
        return await asyncio.gather(*each, return_exceptions=True)

    found = asyncio.run(three())
    assert sum(isinstance(body, BusyError) for body in found) == 2
    assert sum(body == bytes(60) for body in found) == 1
    with pytest.raises(ClientDisconnect):
        asyncio.run(bodies.read(request(in_turn(bytes(65), None)), max_bytes=70))
    assert len(asyncio.run(bodies.read(request(in_turn(bytes(70))), max_bytes=70))) == 70
