"""A command, run to its end: what it said, how long it and its children took, and how much memory they held at most."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Ended", "run"]

_EVERY_SECONDS = 0.05


@dataclass(frozen=True)
class Ended:
    """A command that has ended well.

    Parameters
    ----------
    output
        What it wrote on standard output.
    seconds
        From start to end by the clock.
    processor_seconds
        Of it and of the children that it waited for, user and system.
    peak_bytes
        Resident memory: the peaks of all processes that lived at a time, added up; no less than the true peak of all.
    """

    output: str
    seconds: float
    processor_seconds: float
    peak_bytes: int


def run(command: Sequence[str | Path], environment: Mapping[str, str]) -> Ended:
    """Run a command, and watch it and its children.

    Raises
    ------
    SystemExit
        When it ends with an error, which it has written on standard error.
    """
    with tempfile.TemporaryFile("w+") as output:
        started = time.perf_counter()
        process = subprocess.Popen([str(part) for part in command], stdout=output, env={**os.environ, **environment})
        peak = 0
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            peak = max(peak, sum(map(_peak_of, _tree(process.pid))))
            time.sleep(_EVERY_SECONDS)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"Expected {command[0]} to end well, found exit code {process.returncode}; see above.")
        output.seek(0)
        # The kernel knows the peak of the largest process: a short one may have fallen between looks.
        return Ended(output.read(), seconds, usage.ru_utime + usage.ru_stime, max(peak, usage.ru_maxrss << 10))


def _tree(pid: int) -> list[int]:
    """List a process and all that descend from it."""
    found, pending = [], [pid]
    while pending:
        found.append(pending.pop())
        for task in Path(f"/proc/{found[-1]}/task").glob("*/children"):
            try:
                pending.extend(int(child) for child in task.read_text().split())
            except OSError:
                continue  # it has ended since
    return found


def _peak_of(pid: int) -> int:
    """Return the most resident memory that a process has had, bytes; 0 of one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:")), 0)
