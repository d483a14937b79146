"""Arguments that make no sense, and that they are refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from totalanvi.training import ArgumentError

__all__ = ["named", "refused"]


def refused(call: Callable[[], object], message: str, error: type[Exception] = ArgumentError) -> None:
    """Assert that a call ends in an error of ours whose message has ``message`` in it."""
    with pytest.raises(error, match=message):
        call()


def named(bad: list[tuple[dict[str, Any], str]]) -> pytest.MarkDecorator:
    """Try arguments one after the other, each with its message, under names that say what they are."""
    ids = [", ".join(f"{name}={_said(value)}" for name, value in arguments.items()) for arguments, _ in bad]
    return pytest.mark.parametrize(("arguments", "message"), bad, ids=ids)


def _said(value: object) -> str:
    # Processes that share the tests have to give them the same names: where in memory a function lies is left out.
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))[:40]
