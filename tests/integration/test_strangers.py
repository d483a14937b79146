"""An endpoint that strangers can reach: `totalanvi serve` in a process of its own, with keys and without."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import httpx
import pandas as pd
import pytest
from tests.support.command_line import CONSOLE_SCRIPT
from tests.support.server import RunningServer, running_server, wait_for
from tests.support.toy_bundle import toy_query, write_toy_bundle

from totalanvi.export.demo_endpoint import free_port
from totalanvi.serving.client import Client
from totalanvi.serving.errors import AccessError
from totalanvi.serving.reference import load_reference


@dataclass(frozen=True)
class Guarded:
    """An endpoint with a file of keys, and the key that is in it."""

    server: RunningServer
    keys: Path
    secret: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.secret}"}


def new_key(name: str, file: Path) -> str:
    made = subprocess.run(
        [CONSOLE_SCRIPT, "new-key", name, "--keys", file], check=True, capture_output=True, text=True, timeout=60
    )
    return made.stdout.strip()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_bundle(tmp_path_factory.mktemp("bundle") / "toy")


@pytest.fixture(scope="module")
def guarded(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    home = tmp_path_factory.mktemp("home")
    secret = new_key("lab", home / "keys")
    with running_server(bundle, home, "--keys", home / "keys") as server:
        yield Guarded(server, home / "keys", secret)
    assert server.process.returncode == 0


@pytest.fixture
def web(guarded: Guarded) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=guarded.server.url, timeout=60, trust_env=False) as client:
        yield client


def test_probes_need_no_key_and_all_else_does(web: httpx.Client, guarded: Guarded) -> None:
    assert web.get("/livez").status_code == 200
    assert web.get("/readyz").status_code == 200
    for path in (
        "/v1/info",
        "/v1/features",
        "/v1/labels",
        "/metrics",
        "/v1/uploads/x",
        "/v1/landmarks",
        "/docs.json",
        "/schema.json",
        "/static_content/x",
    ):
        assert web.get(path).status_code == 401
    for path in ("/v1/info", "/metrics"):
        assert web.get(path, headers=guarded.headers).status_code == 200


def test_no_answer_tells_what_serves_it(web: httpx.Client, guarded: Guarded) -> None:
    for answer in (web.get("/livez"), web.get("/v1/info"), web.get("/v1/info", headers=guarded.headers)):
        assert "server" not in answer.headers
        assert "x-powered-by" not in answer.headers
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_keys_come_and_go_while_the_endpoint_runs(web: httpx.Client, guarded: Guarded) -> None:
    before = guarded.keys.read_text()

    second = {"X-API-Key": new_key("guest", guarded.keys)}
    assert web.get("/v1/labels", headers=second).status_code == 200

    guarded.keys.write_text(before)
    assert web.get("/v1/labels", headers=second).status_code == 401
    assert web.get("/v1/labels", headers=guarded.headers).status_code == 200


def test_the_log_knows_who_asked_and_no_key(web: httpx.Client, guarded: Guarded) -> None:
    web.get("/v1/labels", headers=guarded.headers)
    web.get("/v1/a%0Aforged", headers=guarded.headers)
    web.get("/v1/files/a%1b[2J/progress", headers=guarded.headers)
    expected = {("/v1/labels", 200, "lab"), ("/v1/files/a\x1b[2J/progress", 404, "lab")}

    def answered() -> set[tuple[str, int, str]]:
        lines = [json.loads(line) for line in guarded.server.log.read_text().splitlines() if line.startswith("{")]
        return {(line["path"], line["status"], line["key"]) for line in lines if "key" in line}

    # A line is written once the answer is sent.
    wait_for(lambda: expected <= answered(), seconds=20)
    log = guarded.server.log.read_text()
    assert guarded.secret not in log
    assert "\nforged" not in log
    assert "\x1b" not in log


def test_a_client_with_the_key_maps(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    query = toy_query(20)
    with Client(guarded.server.url, api_key=guarded.secret) as client:
        assert list(client.map(query).obs["totalanvi_guess"]) == list(query.obs["truth"])
    with Client(guarded.server.url) as client, pytest.raises(AccessError, match="TOTALANVI_API_KEY"):
        client.map(query)
    monkeypatch.setenv("TOTALANVI_API_KEY", guarded.secret)
    assert load_reference(guarded.server.url).info().name == "toy"


def test_a_file_is_mapped_for_whoever_has_the_key(web: httpx.Client, guarded: Guarded, tmp_path: Path) -> None:
    query = toy_query(20)
    query.write_h5ad(tmp_path / "query.h5ad")
    body = (tmp_path / "query.h5ad").read_bytes()

    answer = web.post("/v1/files?output=parquet", content=body, headers=guarded.headers)

    assert answer.status_code == 200, answer.text
    assert list(pd.read_parquet(BytesIO(answer.content))["totalanvi_guess"]) == list(query.obs["truth"])
    assert web.post("/v1/files", content=body).status_code == 401


def test_no_endpoint_is_opened_to_others_without_keys(bundle: Path) -> None:
    started = subprocess.run(
        [CONSOLE_SCRIPT, "serve", bundle, "--host", "0.0.0.0", "--port", str(free_port())],
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert started.returncode == 2
    assert "--no-auth" in started.stderr
    assert "new-key" in started.stderr


def test_it_is_opened_where_that_is_wanted(bundle: Path, tmp_path: Path) -> None:
    with running_server(bundle, tmp_path, "--host", "0.0.0.0", "--no-auth") as server:
        named = {"Host": "endpoint.lab.org"}
        assert httpx.get(f"{server.url}/v1/info", headers=named, timeout=60, trust_env=False).status_code == 200
