"""The endpoint's end of the process that reads an uploaded file: it answers what is asked, and ends it in time."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from totalanvi.serving.client.carrier import named_error
from totalanvi.serving.endpoint.files import worker
from totalanvi.serving.endpoint.files.frames import HEAD_BYTES, Kind, pack, unpack_head
from totalanvi.serving.endpoint.files.job import RESULT, FileJob
from totalanvi.serving.endpoint.files.receive import no_room
from totalanvi.serving.errors import DeadlineError, EndpointError, FaultError, QueryError, ServingError

__all__ = ["Answerer", "run_job"]

Answerer = Callable[[str, bytes], Awaitable[bytes]]
"""Answers a question of the process: a route, and the body of a request to it."""

_KINDS = ("h5ad", "h5mu", "parquet", "json", "csv", "html")

_INHERITED = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "OPENBLAS_CORETYPE", "SYSTEMROOT", "TZ")
"""All that a process is told of the endpoint's environment: it holds keys."""

_log = logging.getLogger(__name__)


async def run_job(
    job: FileJob, folder: Path, max_question: int, answer: Answerer, progress: Callable[[int, int], None]
) -> Path:
    """Map the file in a folder in a process of its own, and return where the output is.

    Whatever ends the waiting, a deadline or a client that hangs up, ends the process.

    Parameters
    ----------
    job
        What to do.
    folder
        Where the file lies, as `totalanvi.serving.endpoint.files.job.QUERY`.
    max_question
        Bytes that a question may have.
    answer
        Answers what the process asks.
    progress
        Is told how many cells are mapped, of how many.

    Raises
    ------
    ServingError
        Whatever is wrong with the file, the answers, or the process.
    """
    process = await asyncio.create_subprocess_exec(
        # Without the current folder on its path: a stranger's file lies there.
        *(sys.executable, "-P", "-m", worker.__name__),
        cwd=folder,
        env=_environment(folder),
        stdin=PIPE,
        stdout=PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=1 << 20,
    )
    refusal: ServingError | None = None
    try:
        await _send(process, "j", job.model_dump_json().encode())
        while True:
            kind, body = await _receive(process, max_question)
            if kind == "q":
                path, _, question = body.partition(b"\n")
                refusal = await _answer(process, answer, path.decode(), question)
            elif kind == "p":
                told = json.loads(body)
                progress(told["done"], told["total"])
            elif kind == "e":
                # What the endpoint itself refused comes back by name; it knows more of it.
                raise _raised(**json.loads(body)) if refusal is None else refusal
            elif kind == "d":
                return folder / f"{RESULT}.{_known(json.loads(body)['output'])}"
            else:
                raise EndpointError("The process that reads a file said something that is not understood.")
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _known(kind: object) -> str:
    """Return the kind of an output, which the file may have had a say in: it becomes part of a path."""
    if kind not in _KINDS:
        raise EndpointError("The process that reads a file said something that is not understood.")
    return str(kind)


async def _answer(process: Process, answer: Answerer, path: str, question: bytes) -> ServingError | None:
    """Answer a question; return the error that the answer is, where it is one."""
    try:
        answered = await answer(path, question)
    except ServingError as error:
        await _send(process, "e", json.dumps({"name": type(error).__name__, "message": str(error)}).encode())
        return error
    await _send(process, "a", answered)
    return None


async def _send(process: Process, kind: Kind, body: bytes) -> None:
    assert process.stdin is not None
    # When it has ended, reading says why.
    with suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(pack(kind, body))
        await process.stdin.drain()


async def _receive(process: Process, max_bytes: int) -> tuple[str, bytes]:
    assert process.stdout is not None
    try:
        kind, length = unpack_head(await process.stdout.readexactly(HEAD_BYTES))
        if length > max_bytes:
            raise EndpointError("The process that reads a file said more than it may.")
        return kind, await process.stdout.readexactly(length)
    except asyncio.IncompleteReadError:
        raise _ended(await process.wait()) from None


def _ended(code: int) -> ServingError:
    """Return what it means that a process ended without a word."""
    name = signal.Signals(-code).name if -code in signal.valid_signals() else f"exit code {code}"
    if name == "SIGXCPU":
        return DeadlineError(
            "Expected a file that can be mapped in time, found that it takes longer; send fewer cells."
        )
    _log.warning("The process that reads an uploaded file ended with %s.", name)
    return QueryError(
        f"Expected a file of cells that can be read, found one that ends what reads it ({name}): it is damaged, or "
        "needs more memory than a file is given. Write it again with a current anndata, or send fewer cells at a time."
    )


def _raised(name: str, message: str, where: str | None = None) -> ServingError:
    if name == "OutputError":
        return no_room(message)
    if where is None:
        return named_error(name, message)
    _log.error("Mapping an uploaded file failed with %s in %s", name, where)
    return FaultError("The endpoint failed at this file; its operator finds where in the server's log.")


def _environment(folder: Path) -> dict[str, str]:
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return environment | {
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        "HOME": str(folder),
        "TMPDIR": str(folder),
        # HDF5 would run filters that somebody put where it looks for them.
        "HDF5_PLUGIN_PRELOAD": "::",
        # One file takes one core; more threads would reserve more address space.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "ARROW_DEFAULT_MEMORY_POOL": "system",
    }
