"""Altered files to what reads uploads, in processes that are forked rather than started; see `soak_fuzz`.

A process that reads an upload spends most of its second on importing. Here, one that has imported everything is forked
for each file: the same code within the same limits, with the endpoint's answers coming over HTTP.
"""

from __future__ import annotations

import json
import multiprocessing as mp
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Lock, Timer
from typing import IO, Any

import httpx

from altered_files import altered_file, whole_files
from endpoint_process import served
from totalanvi.serving.endpoint.files import worker
from totalanvi.serving.endpoint.files.frames import pack, read_frame
from totalanvi.serving.endpoint.files.job import QUERY, FileJob, FileOptions, FileOutput, Task
from totalanvi.serving.mapping.local import LocalReference
from totalanvi.serving.wire.chunks import MEDIA_TYPE
from totalanvi.serving.wire.limits import Limits

__all__ = ["fuzz_readers"]

PARALLEL = 2
MOST_SECONDS = 60
PRELOADED = (
    *("totalanvi.serving.endpoint.files.tasks", "totalanvi.serving.endpoint.files.worker", "anndata", "mudata"),
    # Without it, each process would import what starts all of them.
    *("__main__", "h5py", "pyarrow.parquet", "scipy.sparse", "totalanvi.serving.outputs.writers"),
)


def fuzz_readers(bundle: Path, local: LocalReference, number: int, kept: Path, draw: random.Random) -> dict[str, Any]:
    """Have altered files read, and return what became of them and what is wrong with that, if anything is.

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
    files, lock = whole_files(local.features, seed=0), Lock()
    outcomes: Counter[str] = Counter()
    wrong: list[str] = []
    slowest = 0.0
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))

    def read(_: int) -> None:
        nonlocal slowest
        with lock:
            what, content = altered_file(files, draw)
            job = _job(draw)
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, QUERY).write_bytes(content)
            outcome, fault = _read(context, job, folder, http)
        seconds = time.perf_counter() - begun
        with lock:
            outcomes[outcome] += 1
            slowest = max(slowest, seconds)
            if fault:
                kept.mkdir(parents=True, exist_ok=True)
                place = kept / f"{len(wrong)}.h5"
                place.write_bytes(content)
                wrong.append(f"{what}: {outcome} {fault}, see {place}")

    started = time.perf_counter()
    with (
        served(bundle) as endpoint,
        httpx.Client(base_url=endpoint.url, timeout=60, trust_env=False) as http,
        ThreadPoolExecutor(PARALLEL) as pool,
    ):
        list(pool.map(read, range(number)))
    return {
        "files": number,
        "seconds": round(time.perf_counter() - started),
        "outcomes": dict(outcomes),
        "slowest_seconds": round(slowest, 2),
        "wrong": wrong,
    }


def _job(draw: random.Random) -> FileJob:
    outputs: tuple[tuple[Task, FileOutput], ...] = (("map", "annotated"), ("map", "parquet"), ("look", "annotated"))
    task, output = draw.choice(outputs)
    limits = Limits()
    return FileJob(
        options=FileOptions(),
        output=output,
        task=task,
        chunk_cells=4096,
        max_cells=limits.max_file_cells,
        max_inflated_bytes=limits.max_file_inflated_bytes,
        memory_bytes=limits.file_memory_bytes,
        cpu_seconds=MOST_SECONDS,
        output_bytes=limits.max_file_bytes,
    )


def _read(context: Any, job: FileJob, folder: str, http: httpx.Client) -> tuple[str, str]:
    """Have a file read, and say what came of it, and what is wrong with that."""
    (to_read, to_write), (from_read, from_write) = context.Pipe(duplex=False), context.Pipe(duplex=False)
    reader = context.Process(target=_reader, args=(folder, to_read, from_write), daemon=True)
    reader.start()
    # Ends the wait below for one that hangs.
    late = Timer(MOST_SECONDS, reader.kill)
    late.start()
    to_read.close()
    from_write.close()
    with os.fdopen(os.dup(to_write.fileno()), "wb") as answers, os.fdopen(os.dup(from_read.fileno()), "rb") as said:
        to_write.close()
        from_read.close()
        try:
            outcome, fault = _converse(job, answers, said, http)
        except (EOFError, BrokenPipeError):
            outcome, fault = "ended", ""
        finally:
            reader.join()
            late.cancel()
    if late.finished.is_set() and reader.exitcode == -signal.SIGKILL:
        return "no end", f"of it within {MOST_SECONDS} s"
    if outcome == "ended":
        # What the endpoint answers as a refusal that names the signal.
        code = reader.exitcode
        outcome = f"ended by {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"
    return outcome, fault


def _reader(folder: str, to_read: Connection, from_write: Connection) -> None:
    """Be the process that reads a file: its ends of the pipes are standard input and output."""
    os.dup2(to_read.fileno(), 0)
    os.dup2(from_write.fileno(), 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    to_read.close()
    from_write.close()
    os.chdir(folder)
    sys.stdin = os.fdopen(0, "r", closefd=False)
    worker.main()
    os._exit(0)


def _converse(job: FileJob, answers: IO[bytes], said: IO[bytes], http: httpx.Client) -> tuple[str, str]:
    answers.write(pack("j", job.model_dump_json().encode()))
    answers.flush()
    while True:
        kind, body = read_frame(said)
        if kind == "q":
            path, _, question = body.partition(b"\n")
            answers.write(_answer(path.decode(), question, http))
            answers.flush()
        elif kind == "d":
            return "mapped", ""
        elif kind == "e":
            error = json.loads(body)
            return error["name"], error.get("where", "")


def _answer(path: str, question: bytes, http: httpx.Client) -> bytes:
    if path.startswith("/v1/map"):
        answer = http.post(path, content=question, headers={"Content-Type": MEDIA_TYPE})
    else:
        answer = http.get(path)
    if answer.is_success:
        return pack("a", answer.content)
    fault = answer.json()["error"]
    return pack("e", json.dumps({"name": fault["type"], "message": fault["message"]}).encode())
