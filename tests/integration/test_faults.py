"""What must not keep an endpoint from serving others: rude clients, a worker killed, a signal, files that vanish."""

from __future__ import annotations

import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from anndata import AnnData
from tests.support.hostile import allow_sockets, idle, reset, slow_bodies, talk
from tests.support.server import RunningServer, running_server
from tests.support.toy_bundle import toy_query, write_toy_bundle

from totalanvi.serving.client import Client
from totalanvi.serving.mapping.local import LocalReference

N_CELLS = 400
READY_SECONDS = 90


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_bundle(tmp_path_factory.mktemp("bundle") / "toy")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Iterator[RunningServer]:
    with running_server(bundle, tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture(scope="module")
def expected(bundle: Path) -> AnnData:
    return LocalReference(bundle).map(toy_query(N_CELLS), impute=False)


def require_served(server: RunningServer, expected: AnnData) -> None:
    """Ask for a small part of the query, as anybody might meanwhile."""
    with Client(server.url, retries=0) as client:
        mapped = client.map(toy_query(N_CELLS)[:5].copy(), impute=False)
    require_same(mapped, expected[:5])


def require_same(found: AnnData, expected: AnnData) -> None:
    assert list(found.obs["totalanvi_label"]) == list(expected.obs["totalanvi_label"])
    np.testing.assert_allclose(found.obs["totalanvi_confidence"], expected.obs["totalanvi_confidence"], atol=1e-5)


def worker_of(server: RunningServer) -> psutil.Process:
    return psutil.Process(server.process.pid).children()[0]


def test_bodies_that_do_not_come_keep_nobody_waiting(server: RunningServer, expected: AnnData) -> None:
    with slow_bodies(server.port, 60):
        time.sleep(0.5)
        require_served(server, expected)


def test_half_bodies_and_resets_leave_nothing_behind(server: RunningServer, expected: AnnData) -> None:
    for _ in range(60):
        reset(server.port)

    require_served(server, expected)
    assert "totalanvi_queue_requests 0.0" in httpx.get(f"{server.url}/metrics", trust_env=False).text
    assert worker_of(server).is_running()


@pytest.mark.parametrize(
    "data",
    [
        b"GET /v1/info HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 2**20 + b"\r\n\r\n",
        b"GET /v1/info HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: a\r\n" % i for i in range(50_000)) + b"\r\n",
        b"GET /" + b"a" * 2**20 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"POST /v1/map HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/map HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
    ],
    ids=["long header", "many headers", "long path", "TLS", "negative length", "endless chunk"],
)
def test_requests_that_are_none_are_refused(server: RunningServer, expected: AnnData, data: bytes) -> None:
    answer = talk(server.port, data)

    assert not answer or answer.split(b" ", 2)[1][:1] == b"4"
    require_served(server, expected)


def test_a_thousand_idle_connections_keep_nobody_waiting(server: RunningServer, expected: AnnData) -> None:
    allow_sockets(1000)
    with idle(server.port, 1000):
        require_served(server, expected)
        assert httpx.get(f"{server.url}/livez", trust_env=False, timeout=10).is_success


def test_a_full_disk_for_the_log_stops_nobody(tmp_path: Path, bundle: Path, expected: AnnData) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    (tmp_path / "server.log").symlink_to("/dev/full")
    with running_server(bundle, tmp_path, ready_by_asking=True) as server:
        require_served(server, expected)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of other processes are Linux's")
def test_a_full_disk_for_uploads_is_told_and_leaves_nothing(server: RunningServer, expected: AnnData) -> None:
    worker = worker_of(server)
    require_served(server, expected)
    before = {file.path for file in worker.open_files()}
    limits = worker.rlimit(psutil.RLIMIT_FSIZE)
    # As good as a full disk: a file cannot grow any further.
    worker.rlimit(psutil.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        answer = httpx.post(f"{server.url}/v1/files", content=bytes(300_000), trust_env=False, timeout=60)
    finally:
        worker.rlimit(psutil.RLIMIT_FSIZE, limits)

    assert answer.status_code == 507
    assert answer.json()["error"]["type"] == "EndpointError"
    require_served(server, expected)
    assert {file.path for file in worker.open_files()} == before


def test_a_client_finishes_although_the_worker_is_killed(server: RunningServer, expected: AnnData) -> None:
    with Client(server.url, chunk_cells=10, retries=20) as client:
        client.info()
        killed = worker_of(server)
        threading.Timer(0.2, killed.kill).start()
        started = time.monotonic()
        mapped = client.map(toy_query(N_CELLS), impute=False)
        require_same(mapped, expected)
        assert time.monotonic() - started < READY_SECONDS
        killed.wait(10)
        assert worker_of(server).pid != killed.pid


def test_a_client_finishes_although_the_endpoint_is_restarted(tmp_path: Path, bundle: Path, expected: AnnData) -> None:
    found: list[AnnData] = []
    with running_server(bundle, tmp_path) as first:
        client = Client(first.url, chunk_cells=2, retries=20)
        client.info()
        asking = threading.Thread(target=lambda: found.append(client.map(toy_query(N_CELLS), impute=False)))
        asking.start()
        time.sleep(0.2)
        first.process.send_signal(signal.SIGTERM)
        assert first.process.wait(60) == 0
    with running_server(bundle, tmp_path, port=first.port):
        asking.join(READY_SECONDS)
        client.close()

    assert len(found) == 1
    require_same(found[0], expected)
    assert "Traceback" not in first.log.read_text()


def test_a_bundle_that_is_altered_or_removed_meanwhile_changes_nothing(
    server: RunningServer, bundle: Path, expected: AnnData
) -> None:
    """The last test: it takes away what the others need."""
    require_served(server, expected)
    (bundle / "encoder_rest.onnx").write_bytes(b"something else")
    require_served(server, expected)
    shutil.rmtree(bundle)
    require_served(server, expected)
