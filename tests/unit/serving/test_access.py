"""Who is let in, on a server in this process; for `totalanvi serve` see tests/integration/test_strangers.py."""

from __future__ import annotations

import asyncio
import hashlib
import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.server import app_in_thread, endpoint_of
from tests.support.toy_bundle import toy_cells

from totalanvi.serving.endpoint.access.headers import SafeHeaders
from totalanvi.serving.endpoint.access.keys import KeyFile, Keys, fixed_keys, parse_keys
from totalanvi.serving.endpoint.access.middleware import Access
from totalanvi.serving.endpoint.access.settings import AccessSettings
from totalanvi.serving.endpoint.app import create_app
from totalanvi.serving.endpoint.routes import Endpoint
from totalanvi.serving.mapped import MapOptions
from totalanvi.serving.mapping.local import LocalReference
from totalanvi.serving.wire.chunks import MEDIA_TYPE, ChunkRequest, encode_request

CELL = {"cells": [{"genes": {"GENE000": 9, "GENE001": 8}}]}


def key_line(name: str, secret: str, limits: str = "") -> str:
    return f"{name}:{hashlib.sha256(secret.encode()).hexdigest()} {limits}\n"


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture
def endpoint(reference: LocalReference) -> Endpoint:
    endpoint = endpoint_of(reference.bundle.path, opened=lambda _: reference)
    endpoint.references.look()
    return endpoint


@pytest.fixture
def web(endpoint: Endpoint) -> Iterator[httpx.Client]:
    lines = key_line("lab", "one") + key_line("class", "two", "cells_per_day=4 requests_per_minute=5")
    settings = AccessSettings(fixed_keys(Keys(parse_keys(lines, "here"))))
    with app_in_thread(SafeHeaders(Access(create_app(endpoint), settings))) as client:
        yield client


def test_whoever_has_a_key_is_let_in(web: httpx.Client) -> None:
    for headers in (bearer("one"), {"Authorization": "bearer  one"}, {"X-API-Key": "two"}, bearer("two")):
        assert web.get("/v1/info", headers=headers).status_code == 200
        assert web.post("/v1/predict", json=CELL, headers=headers).status_code == 200


def test_whoever_has_none_is_told_so(web: httpx.Client) -> None:
    paths = ("/v1/info", "/v1/map", "/v1/predict", "/metrics", "/nowhere", "/", "/livez/../v1/info", "/page/app.js")
    keys: tuple[dict[str, Any], ...] = (
        {},
        bearer("three"),
        {"Authorization": "Bearer"},
        {"Authorization": "Basic one"},
        {"Authorization": "one"},
        {"X-API-Key": ""},
        {"Authorization": b"Bearer \xff\xfe"},
    )
    for path, headers, method in itertools.product(paths, keys, ("GET", "POST", "DELETE")):
        answer = web.request(method, path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["error"]["type"] == "AccessError"


def test_probes_need_no_key(web: httpx.Client) -> None:
    for path in ("/livez", "/readyz", "/v2/health/live", "/v2/health/ready"):
        assert web.get(path).status_code != 401
    for path in ("/v2/health", "/v2/health/live/", "/v2/models/toy/ready"):
        assert web.get(path).status_code == 401


def test_metrics_are_open_where_that_is_wanted(endpoint: Endpoint) -> None:
    settings = AccessSettings(fixed_keys(Keys(parse_keys(key_line("lab", "one"), "here"))), open_metrics=True)
    with app_in_thread(Access(create_app(endpoint), settings)) as web:
        assert web.get("/metrics").status_code == 200
        assert web.get("/v1/info").status_code == 401


def test_a_key_maps_as_many_cells_as_it_may(web: httpx.Client, reference: LocalReference) -> None:
    def ask(n_cells: int, secret: str) -> httpx.Response:
        body = encode_request(ChunkRequest(reference.info().features_digest, MapOptions(), toy_cells(n_cells)[0]))
        return web.post("/v1/map", content=body, headers={"Content-Type": MEDIA_TYPE} | bearer(secret))

    refused = ask(5, "two")
    assert (refused.status_code, refused.json()["error"]["type"]) == (429, "QuotaError")
    assert int(refused.headers["retry-after"]) > 0
    assert ask(3, "two").status_code == 200
    assert web.post("/v1/predict", json=CELL, headers=bearer("two")).status_code == 200
    assert web.get("/v1/info", headers=bearer("two")).status_code == 429
    assert ask(50, "one").status_code == 200


def test_a_key_asks_as_often_as_it_may(web: httpx.Client) -> None:
    answers = [web.get("/v1/labels", headers=bearer("two")) for _ in range(6)]

    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 12
    assert web.get("/v1/labels", headers=bearer("one")).status_code == 200


def test_keys_are_replaced_without_a_restart(endpoint: Endpoint, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(key_line("lab", "one"))
    with app_in_thread(Access(create_app(endpoint), AccessSettings(KeyFile(file)))) as web:
        assert web.get("/v1/info", headers=bearer("one")).status_code == 200
        file.write_text(key_line("lab", "one") + key_line("lab-2", "two"))
        assert web.get("/v1/info", headers=bearer("two")).status_code == 200
        file.write_text(key_line("lab-2", "two"))
        assert web.get("/v1/info", headers=bearer("one")).status_code == 401


def test_the_log_names_the_key_and_never_holds_it(web: httpx.Client, lines: io.StringIO) -> None:
    web.get("/v1/info", headers=bearer("one"))
    web.get("/v1/a%0Aforged: line", headers=bearer("three-that-is-none"))

    text = lines.getvalue()
    assert '"key": "lab", "method": "GET", "path": "/v1/info", "status": 200' in text
    assert "three-that-is-none" not in text
    assert "\nforged" not in text
    assert "Refused GET '/v1/a%0Aforged" in text


def answer_at(app: Any, server: tuple[str, int] | None, host: str = "localhost:3000") -> int:
    """Ask for /v1/info as if at an address, under a name."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/v1/info",
        "headers": [(b"host", host.encode())],
        "query_string": b"",
        "server": server,
    }
    asyncio.run(app(scope, receive, send))
    return int(sent[0]["status"])


def test_without_keys_only_this_machine_is_answered(endpoint: Endpoint) -> None:
    closed = Access(create_app(endpoint), AccessSettings())
    opened = Access(create_app(endpoint), AccessSettings(no_auth=True))

    assert answer_at(closed, ("127.0.0.1", 3000)) == 200
    assert answer_at(closed, ("::1", 3000)) == 200
    for elsewhere in (("10.0.0.1", 3000), None):
        assert answer_at(closed, elsewhere) == 403
        assert answer_at(opened, elsewhere) == 200
    for name in ("127.0.0.1:3000", "[::1]:3000", "LOCALHOST"):
        assert answer_at(closed, ("127.0.0.1", 3000), name) == 200
    for name in ("rebound.org:3000", "127.0.0.1.rebound.org", "", "[", "0.0.0.0:3000"):
        assert answer_at(closed, ("127.0.0.1", 3000), name) == 403
        assert answer_at(opened, ("127.0.0.1", 3000), name) == 200


def test_answers_are_of_no_use_to_other_sites(web: httpx.Client) -> None:
    for answer in (web.get("/v1/info", headers=bearer("one") | {"Origin": "https://other.org"}), web.get("/v1/info")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_what_a_browser_sends_for_another_site_is_refused(web: httpx.Client) -> None:
    site = {"Sec-Fetch-Site": "cross-site"}

    assert web.post("/v1/predict", json=CELL, headers=bearer("one") | site).status_code == 403
    own = {"Sec-Fetch-Site": "same-origin"}
    assert web.post("/v1/predict", json=CELL, headers=bearer("one") | own).status_code == 200
