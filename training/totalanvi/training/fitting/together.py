"""The processes of a run on several devices: started with it, and ended with it.

The first process of a machine starts the others with its own command, as Lightning does, and Lightning takes them for
processes that somebody else has started. What Lightning's launcher lacks is here: an interrupt reaches the first
process alone, whoever ends takes the others along, and what went wrong is told once.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

import lightning as L
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from torch.distributed import DistError

from totalanvi.machine.still_going import still_going
from totalanvi.training.errors import ArgumentError, ProcessesError

__all__ = ["together"]

_ROOM = "TOTALANVI_ROOM_OF_PROCESSES"
"""In the environment of followers: the folder where each leaves a file once it is ready to train."""
_PARENT = "TOTALANVI_FIRST_PROCESS"
"""The same for the process that has started them."""

_LOOK_EVERY = 0.1
_TELLS_FIRST = 15.0
"""Seconds that a follower waits with its own error: where the first process has it, too, that one tells, and ends all.
On busy cores it may take seconds to get there."""
_CLOSES_FIRST = 3.0
"""Seconds from the end of a process' connections to its own."""
_GRACE = 10.0
"""Seconds that the first process has to notice by itself that a follower has ended."""

_followers: Final[list[subprocess.Popen[bytes]]] = []
"""What this process has started; a script that trains twice goes on with the same ones."""


@contextmanager
def together(trainer: L.Trainer) -> Iterator[None]:
    """Train with all processes of ``trainer`` in the block, and end all of them where one fails.

    Parameters
    ----------
    trainer
        Lightning's, before it fits.

    Raises
    ------
    ProcessesError
        When another process has ended, or cannot be reached.
    ArgumentError
        When this program has trained in another number of processes before.

    Examples
    --------
    >>> with together(trainer):  # doctest: +SKIP
    ...     trainer.fit(plan, loader)
    """
    if trainer.world_size == 1:
        yield
    elif _ROOM in os.environ:
        with _following():
            _meet(trainer)
            yield
    elif _starts_processes(trainer):
        with _leading(trainer):
            yield
    else:
        with _told_of_lost_connections():
            _meet(trainer)
            yield


def _require_as_before(n_processes: int) -> None:
    """Refuse another number of processes than have met: those that there are would train on their part alone."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() != n_processes:
        raise ArgumentError(
            f"devices: expected {distributed.get_world_size()} processes in all, in which this program has trained "
            f"before, found {n_processes}; train in as many, or in another program."
        )


def _starts_processes(trainer: L.Trainer) -> bool:
    environment = getattr(trainer.strategy, "cluster_environment", None)
    return isinstance(environment, LightningEnvironment) and not environment.creates_processes_externally


def _meet(trainer: L.Trainer) -> None:
    """Wait for all processes; Lightning would do so where neither a signal nor the end of a follower is heard."""
    _require_as_before(trainer.world_size)
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            trainer.strategy.setup_distributed()  # type: ignore[attr-defined]
        except BaseException as error:
            errors.append(error)

    waiting = threading.Thread(target=wait, name="totalanvi-meet", daemon=True)
    waiting.start()
    with (
        still_going(lambda: f"Waiting for {trainer.world_size} processes") if trainer.is_global_zero else nullcontext()
    ):
        while waiting.is_alive():
            _require_alive()
            waiting.join(_LOOK_EVERY)
    if errors:
        raise errors[0]


# The first process of a machine


@contextmanager
def _leading(trainer: L.Trainer) -> Iterator[None]:
    done = threading.Event()
    try:
        with _environment(trainer):
            if not _followers:
                _start(trainer.num_devices)
            _require_alive()
            threading.Thread(target=_watch, args=(done,), name="totalanvi-followers", daemon=True).start()
            with _told_of_lost_connections():
                _meet(trainer)
                yield
    except BaseException:
        done.set()
        _end()
        raise
    finally:
        done.set()


@contextmanager
def _environment(trainer: L.Trainer) -> Iterator[None]:
    """Say, as Lightning's launcher does, where processes meet; its own does not start any where this is said."""
    environment: Any = trainer.strategy.cluster_environment  # type: ignore[attr-defined]
    said = {
        "MASTER_ADDR": environment.main_address,
        "MASTER_PORT": str(environment.main_port),
        "NODE_RANK": str(trainer.node_rank),
        "LOCAL_RANK": "0",
        "WORLD_SIZE": str(trainer.world_size),
    }
    before = {name: os.environ.get(name) for name in said}
    os.environ.update(said)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _start(n_processes: int) -> None:
    """Start the others with this process' own command, and wait until they have got as far."""
    with tempfile.TemporaryDirectory(prefix="totalanvi-") as room:
        for rank in range(1, n_processes):
            _followers.append(
                subprocess.Popen(
                    [sys.executable, *sys.orig_argv[1:]],
                    env={**os.environ, "LOCAL_RANK": str(rank), _ROOM: room, _PARENT: str(os.getpid())},
                    stdin=subprocess.DEVNULL,
                    # An interrupt from the terminal is for the first process, which ends the others.
                    start_new_session=True,
                )
            )
        while len(list(Path(room).iterdir())) < n_processes - 1:
            _require_alive()
            time.sleep(_LOOK_EVERY)


def _failed(any_code: bool = False) -> str | None:
    """Say which follower has ended as it should not have."""
    for rank, process in enumerate(_followers, start=1):
        code = process.poll()
        if code is not None and (code or any_code):
            return f"process {rank} ended with {f'exit code {code}' if code >= 0 else f'signal {-code}'}"
    return None


def _require_alive() -> None:
    if failed := _failed(any_code=True):
        raise _error(failed)


def _error(failed: str) -> ProcessesError:
    return ProcessesError(
        f"Expected {len(_followers) + 1} processes that train together, found that {failed}; mend what its own message "
        "says, or train on one device."
    )


def _watch(done: threading.Event) -> None:
    """End this process where a follower has failed and it does not notice: it may wait on a device for ever."""
    while not done.wait(_LOOK_EVERY):
        if failed := _failed():
            if not done.wait(_GRACE):
                print(f"Error: {_error(failed)}", file=sys.stderr, flush=True)
                _end()
                os._exit(ProcessesError.exit_code)
            return


def _end() -> None:
    """End followers; they write nothing, so there is nothing to tidy up."""
    for process in _followers:
        process.kill()
    for process in _followers:
        process.wait()
    _followers.clear()


@contextmanager
def _told_of_lost_connections() -> Iterator[None]:
    """Say in one sentence that another process is gone, instead of what the transport says."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, DistError) and "gloo" not in str(error):
            raise
        patience = time.monotonic() + _CLOSES_FIRST
        while (failed := _failed()) is None and _followers and time.monotonic() < patience:
            time.sleep(_LOOK_EVERY)
        if failed is not None:
            raise _error(failed) from error
        raise ProcessesError(
            f"Expected all processes of this run to go on, found one that cannot be reached any more "
            f"({' '.join(str(error).split())}); look at what the others say, and resume the run."
        ) from error


# The others


@contextmanager
def _following() -> Iterator[None]:
    parent = int(os.environ[_PARENT])
    threading.Thread(target=_end_with, args=(parent,), name="totalanvi-first-process", daemon=True).start()
    room = Path(os.environ[_ROOM])
    if room.is_dir():  # else the first process has seen this one before
        (room / os.environ["LOCAL_RANK"]).touch()
    try:
        yield
    except Exception:
        time.sleep(_TELLS_FIRST)
        raise


def _end_with(parent: int) -> None:
    """End this process when the one that has started it is gone, whatever it waits for."""
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY)
    os._exit(1)
