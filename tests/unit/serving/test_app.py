"""The endpoint's routes on a server in this process; for `totalanvi serve` see tests/integration/test_endpoint.py."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.server import app_in_thread, endpoint_of, wait_for
from tests.support.toy_bundle import TOY, toy_cells, write_toy_bundle

from totalanvi.serving.endpoint.app import create_app
from totalanvi.serving.endpoint.routes import Endpoint
from totalanvi.serving.errors import BundleError
from totalanvi.serving.mapped import MapOptions
from totalanvi.serving.mapping.local import LocalReference
from totalanvi.serving.wire.arrow_stream import compress
from totalanvi.serving.wire.chunks import MEDIA_TYPE, ChunkRequest, decode_response, encode_request
from totalanvi.serving.wire.limits import Limits

JSON = {"Content-Type": "application/json"}
ARROW = {"Content-Type": MEDIA_TYPE}
ONE_CELL = {"cells": [{"genes": {"GENE000": 9, "GENE001": 8}}]}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> LocalReference:
    return LocalReference(write_toy_bundle(tmp_path_factory.mktemp("bundle") / "toy"))


@pytest.fixture
def endpoint(local: LocalReference) -> Endpoint:
    limits = Limits(max_cells=50, max_json_bytes=2048, max_body_bytes=20_000)
    return endpoint_of(local.bundle.path, limits, lambda _: local)


@pytest.fixture
def web(endpoint: Endpoint) -> Iterator[httpx.Client]:
    with app_in_thread(create_app(endpoint)) as client:
        wait_for(lambda: endpoint.ready)
        yield client


def chunk(local: LocalReference, n_cells: int = 5, **options: Any) -> bytes:
    return encode_request(ChunkRequest(local.info().features_digest, MapOptions(**options), toy_cells(n_cells)[0]))


def test_information_about_the_reference(web: httpx.Client, local: LocalReference) -> None:
    assert web.get("/v1/info").json()["digest"] == local.bundle.digest
    assert web.get("/v1/features").json()["features"]["proteins"] == TOY.proteins
    assert web.get("/v1/labels").json() == {"labels": TOY.labels}


@pytest.mark.parametrize("impute", [True, False])
def test_a_chunk_is_mapped(web: httpx.Client, local: LocalReference, impute: bool) -> None:
    answer = web.post("/v1/map", content=chunk(local, impute=impute), headers=ARROW)

    received = decode_response(
        answer.content, n_cells=5, n_labels=4, n_names=6, n_latent=5, n_proteins=6 if impute else None
    )
    expected = local.score(toy_cells(5)[0], MapOptions(impute=impute))
    assert (received.mapped.probabilities == expected.probabilities).all()


def test_compressed_bodies_are_read(web: httpx.Client, local: LocalReference) -> None:
    zstd = {"Content-Encoding": "zstd"}

    assert web.post("/v1/map", content=compress(chunk(local)), headers=ARROW | zstd).status_code == 200
    body = compress(json.dumps(ONE_CELL).encode())
    assert web.post("/v1/predict", content=body, headers=JSON | zstd).status_code == 200


def test_bodies_that_inflate_beyond_the_limit_are_refused(web: httpx.Client) -> None:
    zstd = {"Content-Encoding": "zstd"}

    assert web.post("/v1/map", content=compress(bytes(20_001)), headers=ARROW | zstd).status_code == 413
    assert web.post("/v1/predict", content=compress(b" " * 2049), headers=JSON | zstd).status_code == 413


def test_too_many_cells_are_refused(web: httpx.Client, local: LocalReference) -> None:
    cells = {"cells": [{"genes": {}}] * 51}

    assert web.post("/v1/predict", json=cells).status_code == 413
    assert web.post("/v1/map", content=chunk(local, 51), headers=ARROW).status_code == 413


@pytest.mark.parametrize(
    ("headers", "words"),
    [({}, "application/json"), ({"Content-Type": "application/x-www-form-urlencoded"}, "application/json")],
)
def test_curl_users_are_told_which_header_to_set(web: httpx.Client, headers: dict[str, str], words: str) -> None:
    answer = web.post("/v1/predict", content=b"{}", headers=headers)

    assert answer.status_code == 415
    assert words in answer.json()["error"]["message"]


def test_charset_in_the_content_type_is_fine(web: httpx.Client) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}

    assert web.post("/v1/predict", content=json.dumps(ONE_CELL), headers=headers).status_code == 200


def test_while_the_reference_loads_the_answer_is_503(local: LocalReference) -> None:
    release = threading.Event()

    def slowly(_: Path) -> LocalReference:
        release.wait(30)
        return local

    endpoint = endpoint_of(local.bundle.path, opened=slowly)
    with app_in_thread(create_app(endpoint)) as web:
        for answer in (web.get("/v1/info"), web.get("/v1/labels"), web.post("/v1/predict", json=ONE_CELL)):
            assert answer.status_code == 503
            assert answer.json()["error"]["type"] == "NotReadyError"
            assert answer.headers["retry-after"] == "1"
        assert not endpoint.ready
        assert "totalanvi_ready 0.0" in web.get("/metrics").text
        release.set()
        wait_for(lambda: endpoint.ready)
        assert web.get("/v1/info").status_code == 200


def test_a_reference_that_cannot_be_opened_says_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    endpoint = endpoint_of(tmp_path / "missing")
    with caplog.at_level(logging.ERROR), app_in_thread(create_app(endpoint)) as web:
        wait_for(lambda: "cannot be served" in caplog.text)
        answer = web.get("/v1/info")

    assert answer.status_code == BundleError.http_status
    assert answer.json()["error"]["type"] == "BundleError"
    assert "missing" in answer.json()["error"]["message"]
    assert not endpoint.ready


def test_a_bug_while_loading_is_logged_not_shown(local: LocalReference, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: Path) -> LocalReference:
        raise RuntimeError("of ours")

    endpoint = endpoint_of(local.bundle.path, opened=broken)
    with caplog.at_level(logging.ERROR), app_in_thread(create_app(endpoint)) as web:
        wait_for(lambda: "cannot be served" in caplog.text)
        answer = web.get("/v1/info")

    assert answer.status_code == 500
    assert "of ours" not in answer.text


class Broken(LocalReference):
    """A reference with a bug, whose message holds what a client sent."""

    def score(self, *_: Any) -> Any:
        raise RuntimeError("secret 123456")


def test_a_bug_is_500_and_leaves_no_data_in_log_or_answer(
    local: LocalReference, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = endpoint_of(local.bundle.path, opened=Broken)
    with caplog.at_level(logging.INFO), app_in_thread(create_app(endpoint)) as web:
        wait_for(lambda: endpoint.ready)
        answer = web.post("/v1/predict", json=ONE_CELL)

    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "FaultError"
    assert "123456" not in answer.text + caplog.text
    assert "RuntimeError" in caplog.text
    assert "score" in caplog.text


class Slow(LocalReference):
    """A reference that takes its time."""

    release = threading.Event()

    def score(self, *args: Any) -> Any:
        self.release.wait(30)
        return super().score(*args)


def test_no_answer_in_time_is_504_and_a_full_queue_429(local: LocalReference) -> None:
    limits = Limits(request_seconds=0.5, max_concurrency=1, max_queue=0)
    endpoint = endpoint_of(local.bundle.path, limits, Slow)
    with app_in_thread(create_app(endpoint)) as web:
        wait_for(lambda: endpoint.ready)
        late = web.post("/v1/predict", json=ONE_CELL)
        busy = web.post("/v1/predict", json=ONE_CELL)
        Slow.release.set()
        wait_for(lambda: endpoint.queue.taken == 0)
        recovered = web.post("/v1/predict", json=ONE_CELL)

    assert (late.status_code, late.json()["error"]["type"]) == (504, "DeadlineError")
    assert (busy.status_code, busy.json()["error"]["type"]) == (429, "BusyError")
    assert int(busy.headers["retry-after"]) >= 1
    assert recovered.status_code == 200


def test_a_client_that_hangs_up_is_no_fault(endpoint: Endpoint) -> None:
    app = create_app(endpoint)
    endpoint.references.look()
    sent: list[Any] = []
    messages = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/predict",
        "headers": [(b"content-type", b"application/json")],
        "query_string": b"",
    }

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))

    assert sent[0]["status"] == 499
    assert endpoint.queue.taken == 0


def test_metrics_name_routes_and_statuses(web: httpx.Client, local: LocalReference) -> None:
    web.post("/v1/map", content=chunk(local, 7), headers=ARROW)
    web.post("/v1/map", content=b"", headers=ARROW)
    web.get("/v1/info")

    text = web.get("/metrics").text

    assert 'totalanvi_requests_total{route="map",status="200"} 1.0' in text
    assert 'totalanvi_requests_total{route="map",status="422"} 1.0' in text
    assert 'totalanvi_cells_total{route="map"} 7.0' in text
    assert 'totalanvi_inference_seconds_count{route="map"} 1.0' in text
    assert "totalanvi_queue_requests 0.0" in text
    assert f'digest="{local.bundle.digest}"' in text
    assert "totalanvi_ready 1.0" in text


def test_unknown_paths_add_no_series(web: httpx.Client) -> None:
    before = len(web.get("/metrics").text.splitlines())
    for place in range(20):
        assert web.get(f"/v1/{place}").status_code == 404

    assert len(web.get("/metrics").text.splitlines()) == before
