"""An endpoint that is told to end: it answers what it has, sends others away, and is gone then."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from tests.support.server import RunningServer, running_server, wait_for
from tests.support.toy_bundle import toy_cells, write_toy_bundle

from totalanvi.serving.endpoint.catalogue import Catalogue
from totalanvi.serving.mapped import MapOptions
from totalanvi.serving.wire.chunks import MEDIA_TYPE, ChunkRequest, encode_request

ONE_CELL = {"cells": [{"genes": {"GENE000": 9, "GENE001": 8}}]}


def chunk(bundle: Path) -> bytes:
    catalogue = Catalogue([bundle])
    catalogue.look()
    features = catalogue.find(None).info.features_digest
    return encode_request(ChunkRequest(features, MapOptions(samples=1000), toy_cells(600)[0]))


def at_work(server: RunningServer) -> bool:
    text = httpx.get(f"{server.url}/metrics", trust_env=False).text
    return "totalanvi_queue_nonzeros 0.0" not in text


def test_what_is_at_work_is_answered_and_what_is_new_is_sent_away(tmp_path: Path) -> None:
    bundle = write_toy_bundle(tmp_path / "toy")
    with running_server(bundle, tmp_path, drain_seconds=20) as server, ThreadPoolExecutor(1) as pool:
        body = chunk(bundle)
        headers = {"Content-Type": MEDIA_TYPE}
        long = pool.submit(
            httpx.post, f"{server.url}/v1/map", content=body, headers=headers, timeout=120, trust_env=False
        )
        wait_for(lambda: at_work(server) or long.done())
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: httpx.get(f"{server.url}/readyz", trust_env=False).status_code == 503)

        refused = httpx.post(f"{server.url}/v1/predict", json=ONE_CELL, trust_env=False)
        alive = httpx.get(f"{server.url}/livez", trust_env=False)

        assert (refused.status_code, refused.json()["error"]["type"]) == (503, "NotReadyError")
        assert refused.headers["retry-after"] == "1"
        assert alive.status_code == 200
        assert long.result().status_code == 200
        # A second signal ends the waiting: this one, and that of `running_server`.
    assert server.process.returncode == 0
