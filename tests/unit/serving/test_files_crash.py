"""A process that a file has crashed: its client is told, others are served, nothing is left."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
from tests.support.server import wait_for
from tests.support.toy_bundle import toy_query
from tests.support.uploads import Open, refusal, wait_until_empty

from totalanvi.serving.endpoint.files import worker


def readers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if worker.__name__ in child.cmdline()]


def test_a_reader_that_crashes_is_a_refusal_that_says_so(opened: Open, uploads: Path, tmp_path: Path) -> None:
    web = opened()
    toy_query(40).write_h5ad(tmp_path / "query.h5ad")
    body = (tmp_path / "query.h5ad").read_bytes()

    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(web.post, "/v1/files", content=body)
        wait_for(readers)
        # As libhdf5 does to a process when it follows a pointer that a file has made up.
        readers()[0].send_signal(signal.SIGSEGV)
        status, kind, message = refusal(sent.result())

    assert (status, kind, "SIGSEGV" in message) == (422, "QueryError", True)
    wait_until_empty(uploads)
    assert web.post("/v1/files", content=body).status_code == 200
