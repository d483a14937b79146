"""A job on Ray: the same parts as here, with two workers, one of which is killed on the way."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from tests.support.command_line import Run
from tests.support.files import contents, listing
from tests.support.queries import assert_three_parts, write_anndata
from tests.support.toy_bundle import toy_query

from totalanvi.serving.addresses import is_loopback
from totalanvi.serving.errors import DeviceError
from totalanvi.serving.jobs.on_ray import RayWorker, Share, share_of
from totalanvi.serving.jobs.worker import Worker

if find_spec("ray") is None:  # Importing it is left to what is tested.
    pytest.skip("needs Ray", allow_module_level=True)

OPTIONS = ("--samples", 1, "--part-cells", 6)


def test_two_workers_one_of_them_killed_make_what_one_process_makes(
    run: Run, toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    queries = tmp_path / "queries"
    queries.mkdir()
    for seed, n_cells in enumerate((300, 200)):
        write_anndata(toy_query(n_cells, seed), queries / f"donor{seed}.h5ad")
    (queries / "bad.h5ad").write_bytes(b"not cells")
    words = ("map", toy_folder, queries, f"file://{queries}/donor1.h5ad", *OPTIONS)
    assert run(*words, "-o", f"{tmp_path}/here/")[0] == 3

    with watching(tmp_path / "ray") as seen:
        code, printed, said = run(*words, "-o", f"{tmp_path}/ray/", "--engine", "ray", "--workers", 2)

    assert code == 3, said
    assert "Queries:    2 done, 1 failed\nCells:      500 mapped\n" in printed
    assert "Failed: bad (" in said
    assert len(seen.killed) == 1
    assert len(seen.workers) == 3, "the one that was killed has a successor"
    assert all(is_loopback(address) for address in seen.listening), seen.listening
    assert _kept(tmp_path / "ray") == _kept(tmp_path / "here")
    assert listing(tmp_path / "ray" / "_job") == ["job.json", "lock", "queries"]
    assert not any(name in os.environ for name in ("RAY_AUTH_TOKEN", "RAY_USAGE_STATS_ENABLED"))


def test_an_absent_cluster_is_one_clear_error(run: Run, toy_folder: Path, query: Path, tmp_path: Path) -> None:
    words = ("--engine", "ray", "--cluster", "127.0.0.1:1")
    code, _, said = run("map", toy_folder, query, "-o", f"{tmp_path}/scored/", *words)
    assert code == 2
    assert_three_parts(said, "a Ray cluster at '127.0.0.1:1'", "--cluster")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (share_of(2, 0, None), Share(1, 2, 0)),
        (share_of(32, 0, None), Share(8, 4, 0)),
        (share_of(32, 4, None), Share(4, 4, 1)),
        (share_of(8, 4, None), Share(4, 2, 1)),
        (share_of(2, 0, 2), Share(2, 1, 0)),
        (share_of(2, 0, 4), Share(4, 0.5, 0)),
        (share_of(32, 1, 4), Share(4, 4, 0)),
    ],
)
def test_cores_and_devices_are_divided(found: Share, expected: Share) -> None:
    assert found == expected


def test_a_worker_ends_with_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: object) -> None:
        raise DeviceError("lost")

    monkeypatch.setattr(Worker, "score", lost)
    process = multiprocessing.get_context("fork").Process(
        target=RayWorker.score, args=(RayWorker.__new__(RayWorker), None, None, range(1))
    )
    process.start()
    process.join(timeout=60)
    assert process.exitcode == 1


class Seen:
    """What a watcher saw of Ray's processes."""

    def __init__(self) -> None:
        self.workers: set[int] = set()
        self.killed: set[int] = set()
        self.listening: set[str] = set()


@contextmanager
def watching(folder: Path) -> Iterator[Seen]:
    """Look at the processes that this one starts; kill one worker when the first parts are there."""
    seen, over = Seen(), threading.Event()

    def look() -> None:
        while not over.is_set():
            for process in psutil.Process().children(recursive=True):
                try:
                    if process.name().startswith("ray::RayWorker"):
                        seen.workers.add(process.pid)
                    sockets = process.net_connections(kind="inet")
                    seen.listening.update(each.laddr.ip for each in sockets if each.status == psutil.CONN_LISTEN)
                    if process.pid in seen.workers and not seen.killed and any(folder.glob("donor*/part-*")):
                        process.kill()
                        seen.killed.add(process.pid)
                except psutil.Error:
                    continue
            time.sleep(0.1)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def _kept(folder: Path) -> dict[str, bytes]:
    return {name: content for name, content in contents(folder).items() if name != "_summary.json"}
