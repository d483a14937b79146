"""Bytes as they come from a damaged disk, a torn connection, or somebody who means harm."""

from __future__ import annotations

import random
from collections.abc import Callable

__all__ = ["altered"]


def altered(body: bytes, draw: random.Random) -> bytes:
    """Return a body with a few bytes changed, inserted, repeated or cut off."""
    changed = bytearray(body)
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        place = draw.randrange(len(changed) + 1)
        _ALTERATIONS[draw.randrange(len(_ALTERATIONS))](changed, place, draw)
        if not changed:
            break
    return bytes(changed)


def _flip(body: bytearray, place: int, draw: random.Random) -> None:
    if place < len(body):
        body[place] ^= 1 << draw.randrange(8)


def _set_word(body: bytearray, place: int, draw: random.Random) -> None:
    word = draw.choice((0, 1, -1, 2**31 - 1, -(2**31), draw.getrandbits(31)))
    body[place : place + 4] = word.to_bytes(4, "little", signed=True)


def _insert(body: bytearray, place: int, draw: random.Random) -> None:
    body[place:place] = draw.randbytes(draw.randrange(1, 9))


def _cut(body: bytearray, place: int, draw: random.Random) -> None:
    del body[place : place + draw.randrange(1, 64)]


def _repeat(body: bytearray, place: int, draw: random.Random) -> None:
    body[place:place] = body[place : place + draw.randrange(1, 256)]


def _end(body: bytearray, place: int, draw: random.Random) -> None:
    del body[place:]


_ALTERATIONS: tuple[Callable[[bytearray, int, random.Random], None], ...] = (
    *(_flip, _flip, _set_word, _set_word, _insert, _cut, _repeat, _end),
)
