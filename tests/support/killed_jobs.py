"""A job that is killed again and again: run as a program, it prints a line of JSON for each time.

What takes long to begin, imports and compiled functions, is there before each fork, so that kills fall into the work.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from totalanvi.serving.engine.nearest import compiled_search
from totalanvi.serving.engine.sparse_rows import compiled_product
from totalanvi.serving.jobs.how import How
from totalanvi.serving.jobs.job import map_job
from totalanvi.serving.mapped import MapOptions

__all__ = ["KILLED_HOW"]

KILLED_HOW = How(options=MapOptions(samples=2), batch_size=8, part_cells=8)


def main(reference: str, queries: list[str], folder: Path, whole: Path, n_kills: int, seed: int) -> None:
    """Map without being killed into `whole`, then into `folder`, killed `n_kills` times and once not.

    A job that is done before it was to be killed is begun anew. One kill of four comes while the job opens what it
    needs, the others at some time after another part was entered.
    """
    compiled_product()
    compiled_search()
    began = time.perf_counter()
    _run(reference, queries, whole)
    seconds = time.perf_counter() - began
    rng = random.Random(seed)
    killed = 0
    while killed < n_kills:
        alive = _told(folder, lambda: _run(reference, queries, folder, rng.random() > 0.25, rng.random() * seconds / 2))
        killed += alive
        if not alive:
            shutil.rmtree(folder)
    _told(folder, lambda: _run(reference, queries, folder))


def _told(folder: Path, run: Callable[[], bool]) -> bool:
    """Run, and print whether it was killed, how many parts are entered, and which that were before are others now."""
    before = _parts(folder)
    killed = run()
    after = _parts(folder)
    redone = [name for name, file in before.items() if after.get(name) != file]
    print(json.dumps({"killed": killed, "kept": len(after), "more": len(after) - len(before), "redone": redone}))
    return killed


def _run(reference: str, queries: list[str], folder: Path, in_work: bool = False, seconds: float | None = None) -> bool:
    """Run the job in a process of its own; returns whether it was killed.

    Parameters
    ----------
    in_work
        Whether the time begins when another part is entered, and not with the process.
    seconds
        After how long it is killed; None lets it come to its end.
    """
    n_before = len(_parts(folder))
    child = os.fork()
    if child == 0:
        map_job(reference, queries, folder, KILLED_HOW, "resume")
        os._exit(0)
    if seconds is not None:
        ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
        while in_work and len(_parts(folder)) == n_before and os.waitid(os.P_PID, child, ended) is None:
            time.sleep(0.001)
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, status
    return os.WIFSIGNALED(status)


def _parts(folder: Path) -> dict[str, list[int]]:
    """Return which parts are entered in the ledger, and which file each is."""
    entries = (json.loads(file.read_bytes()) for file in folder.glob("_job/queries/*/[0-9]*.json"))
    files = {entry["file"]: (folder / entry["file"]).stat() for entry in entries}
    return {name: [about.st_ino, about.st_mtime_ns] for name, about in files.items()}


if __name__ == "__main__":
    reference, folder, whole, n_kills, seed, *queries = sys.argv[1:]
    main(reference, queries, Path(folder), Path(whole), int(n_kills), int(seed))
