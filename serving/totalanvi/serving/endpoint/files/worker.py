"""The process that reads an uploaded file: within limits, in the file's folder, with the endpoint at the other end.

Nothing that a file brings about here reaches the endpoint but frames: the memory that it fills, the time that it takes
and the crash that it provokes are this process's own. It opens no connection; cells are scored by the endpoint, which
has the only engine, and asked for through the pipe that standard input and output are.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
import traceback
from collections.abc import Mapping
from contextlib import suppress
from typing import IO

from totalanvi.serving.endpoint.files.frames import Kind, pack, read_frame

__all__ = ["PipeCarrier", "main"]


class PipeCarrier:
    """The endpoint, as the other end of a pipe: a `totalanvi.serving.client.carrier.Carrier`.

    Parameters
    ----------
    questions, answers
        To the endpoint, and from it.
    """

    url = "the endpoint"
    is_loopback = True

    def __init__(self, questions: IO[bytes], answers: IO[bytes]) -> None:
        self._questions = questions
        self._answers = answers
        self._lock = threading.Lock()

    def get(self, path: str) -> bytes:
        """Return the answer to a GET."""
        return self.post(path, b"", {})

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        """Return the answer to a POST."""
        from totalanvi.serving.client.carrier import named_error

        with self._lock:
            self._send("q", path.encode() + b"\n" + body)
            kind, answer = read_frame(self._answers)
        if kind == "e":
            raise named_error(**json.loads(answer))
        return answer

    def tell(self, kind: Kind, **values: object) -> None:
        """Say something that needs no answer."""
        with self._lock:
            self._send(kind, json.dumps(values).encode())

    def close(self) -> None:
        """Do nothing: the process ends."""

    def _send(self, kind: Kind, body: bytes) -> None:
        self._questions.write(pack(kind, body))
        self._questions.flush()


def main() -> None:
    """Do the job that standard input brings."""
    # Whatever prints must not print into the frames.
    questions = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    answers = sys.stdin.buffer
    carrier = PipeCarrier(questions, answers)
    _, job = read_frame(answers)
    try:
        _limit(json.loads(job))
        carrier.tell("d", output=_do(job, carrier))
    except (BrokenPipeError, EOFError):
        # The endpoint has given the file up, or is gone.
        sys.exit(1)
    except BaseException as error:
        carrier.tell("e", **_described(error))


def _limit(job: Mapping[str, int]) -> None:
    """Bound what this process can take, before anything of the file is read."""
    with suppress(ModuleNotFoundError):  # Windows
        import resource

        for what, most in (
            (resource.RLIMIT_AS, job["memory_bytes"]),
            (resource.RLIMIT_CPU, job["cpu_seconds"]),
            (resource.RLIMIT_FSIZE, job["output_bytes"]),
            (resource.RLIMIT_CORE, 0),
        ):
            _, hard = resource.getrlimit(what)
            bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
            with suppress(ValueError, OSError):  # macOS has no limit of address space
                resource.setrlimit(what, (bound, bound))


def _do(serialized: bytes, carrier: PipeCarrier) -> str:
    """Do a job and return the kind of the output."""
    from totalanvi.serving.endpoint.files.job import FileJob
    from totalanvi.serving.endpoint.files.tasks import do

    return do(FileJob.model_validate_json(serialized), carrier)


def _described(error: BaseException) -> dict[str, str]:
    """Return an error as the endpoint is to raise it; of a fault of ours, where it arose, without what it says."""
    from totalanvi.serving.endpoint.files.job import QUERY
    from totalanvi.serving.errors import ServingError

    if isinstance(error, ServingError):
        # The name that the file has here says nothing to whoever sent it.
        return {"name": type(error).__name__, "message": str(error).replace(repr(QUERY), "the file that was sent")}
    # The system's own word for it, where a call rather than Python asks: a folder that is listed for an import.
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return {
            "name": "TooLargeError",
            "message": "Expected a file that can be mapped within the memory of one, found that it takes more; send "
            "fewer cells at a time, or leave out what mapping does not need.",
        }
    steps = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{step.name} ({step.filename}:{step.lineno})" for step in reversed(steps))
    return {"name": type(error).__name__, "message": "", "where": where}


if __name__ == "__main__":
    main()
