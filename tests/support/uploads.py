"""Servers in this process that take files, and what is left of these."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import httpx

__all__ = ["MAX_BYTES", "Open", "left", "refusal", "wait_until_empty"]

MAX_BYTES = 1_000_000

Open = Callable[..., httpx.Client]
"""Serves with limits that are given by name."""


def left(uploads: Path) -> list[Path]:
    """Return the folders of files that are still there."""
    # Not into them: they may vanish meanwhile.
    return list(uploads.glob("endpoint-*/upload-*"))


def wait_until_empty(uploads: Path) -> None:
    """Wait until none is."""
    end = time.monotonic() + 30
    while left(uploads):
        assert time.monotonic() < end, left(uploads)
        time.sleep(0.05)


def refusal(answer: httpx.Response) -> tuple[int, str, str]:
    """Return status, type and message of an answer that is an error."""
    fault = answer.json()["error"]
    return answer.status_code, fault["type"], fault["message"]
