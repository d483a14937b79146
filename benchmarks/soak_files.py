"""Altered files to a real endpoint, two at a time, as strangers upload them; see `soak_fuzz`."""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import httpx
import psutil

from altered_files import altered_file, whole_files
from endpoint_process import Served, served
from totalanvi.serving.mapping.local import LocalReference

__all__ = ["fuzz_files"]

PARALLEL = 2
WARM_SHARE = 0.3
MOST_SECONDS = 60.0
MOST_GROWTH = 0.05
MOST_MORE_FILES = 4
"""Open files that a worker may have more at the end: connections that are being closed."""
ROUTES = ("/v1/files", "/v1/files?output=parquet", "/v1/uploads")


@dataclass
class _Seen:
    """What came back."""

    statuses: Counter[int] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    """What ended a process that read a file, as the refusal has it."""
    slowest: float = 0.0
    wrong: list[str] = field(default_factory=list)


def fuzz_files(bundle: Path, local: LocalReference, number: int, kept: Path, draw: random.Random) -> dict[str, Any]:
    """Send altered files, and return what came back and what is wrong with that, if anything is.

    Parameters
    ----------
    bundle
        What is asked.
    local
        The same, for the names that files have to have.
    number
        How many files.
    kept
        Folder for files that bring about what should not be.
    draw
        How they are altered.
    """
    seen, lock = _Seen(), Lock()
    files = whole_files(local.features, seed=0)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        uploads = Path(folder, "uploads")
        with served(
            bundle, uploads=uploads, max_files=PARALLEL, file_seconds=MOST_SECONDS, log_level="warning"
        ) as endpoint:
            with httpx.Client(base_url=endpoint.url, timeout=2 * MOST_SECONDS, trust_env=False) as http:
                for kind, content in files.items():
                    answer = http.post("/v1/files", content=content)
                    if not answer.is_success:
                        seen.wrong.append(f"{kind}, whole: {answer.status_code} {answer.text[:300]}")
                before = len(endpoint.processes())
                first = round(WARM_SHARE * number)
                _send_all(http, files, first, kept, draw, seen, lock)
                worker = endpoint.processes()[-1]
                memory, opened = worker.memory_info().rss, worker.num_fds()
                _send_all(http, files, number - first, kept, draw, seen, lock)
            growth = worker.memory_info().rss / memory - 1
            seen.wrong += _left(endpoint, worker, before, opened, uploads)
            log = endpoint.log.read_text(errors="replace")
        seen.wrong += [line[:300] for line in log.splitlines() if "failed with" in line or "Traceback" in line]
    if growth > MOST_GROWTH:
        seen.wrong.append(f"expected flat memory, found that the worker's grew by {growth:.1%}")
    return {
        "files": number,
        "seconds": round(time.perf_counter() - started),
        "statuses": {str(status): count for status, count in sorted(seen.statuses.items())},
        "refusals": dict(seen.refusals),
        "readers_ended_by": dict(seen.ended),
        "slowest_seconds": round(seen.slowest, 2),
        "growth": round(growth, 4),
        "wrong": seen.wrong,
    }


def _send_all(
    http: httpx.Client,
    files: dict[str, bytes],
    number: int,
    kept: Path,
    draw: random.Random,
    seen: _Seen,
    lock: Lock,
) -> None:
    def send(_: int) -> None:
        with lock:
            what, content = altered_file(files, draw)
            route = draw.choice(ROUTES)
        begun = time.perf_counter()
        answer = http.post(route, content=content)
        seconds = time.perf_counter() - begun
        if answer.is_success and route == "/v1/uploads":
            http.delete(f"{route}/{answer.json()['id']}")
        with lock:
            _note(seen, answer, seconds, f"{what}, to {route}", content, kept)

    with ThreadPoolExecutor(PARALLEL) as pool:
        list(pool.map(send, range(number)))


def _note(seen: _Seen, answer: httpx.Response, seconds: float, what: str, content: bytes, kept: Path) -> None:
    seen.statuses[answer.status_code] += 1
    seen.slowest = max(seen.slowest, seconds)
    if not answer.is_success:
        fault = answer.json()["error"]
        seen.refusals[fault["type"]] += 1
        _, found, reason = fault["message"].partition("ends what reads it (")
        if found:
            seen.ended[reason.partition(")")[0]] += 1
    if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR or seconds > MOST_SECONDS / 2:
        kept.mkdir(parents=True, exist_ok=True)
        place = kept / f"{len(seen.wrong)}.h5"
        place.write_bytes(content)
        seen.wrong.append(f"{what}: {answer.status_code} after {seconds:.1f} s, see {place}")


def _left(endpoint: Served, worker: psutil.Process, before: int, opened: int, uploads: Path) -> list[str]:
    """Say what is left of files, though nobody asks for any."""
    end = time.monotonic() + MOST_SECONDS
    while (len(endpoint.processes()) > before or list(uploads.glob("*/upload-*"))) and time.monotonic() < end:
        time.sleep(0.1)
    wrong = []
    if worker.pid != endpoint.processes()[-1].pid:
        wrong.append("expected the worker to live, found another in its place")
    if len(endpoint.processes()) != before:
        wrong.append(f"expected {before} processes, found {len(endpoint.processes())}")
    if found := list(uploads.glob("*/upload-*")):
        wrong.append(f"expected no file to be left, found {len(found)}")
    if worker.num_fds() > opened + MOST_MORE_FILES:
        wrong.append(f"expected {opened} open files, found {worker.num_fds()}")
    return wrong
