"""Every route that the endpoint describes, asked as its description allows and as it does not, by schemathesis.

``TOTALANVI_SCHEMA_EXAMPLES=500 pytest tests/integration/test_openapi_schema.py`` draws that many requests of each kind
for each route.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.support.server import RunningServer, running_server
from tests.support.toy_bundle import toy_cells, toy_query, write_toy_bundle

from totalanvi.serving.endpoint.openapi import BINARY, openapi
from totalanvi.serving.mapped import MapOptions
from totalanvi.serving.reference import load_reference
from totalanvi.serving.wire.chunks import MEDIA_TYPE, ChunkRequest, encode_request

EXAMPLES = int(os.environ.get("TOTALANVI_SCHEMA_EXAMPLES", "2"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

KEY = "a key of the tests"
WITH_KEY = {"Authorization": f"Bearer {KEY}"}
OPERATIONS = {found.ok().label: found.ok() for found in schemathesis.openapi.from_dict(openapi()).get_all_operations()}
PROBES = ("GET /livez", "GET /readyz", "GET /v2/health/live", "GET /v2/health/ready")
ASKED = [(label, GenerationMode.POSITIVE) for label in OPERATIONS]
# Any text is allowed in a path: only what stands behind it, or is sent, can be other than described.
ASKED += [
    (label, GenerationMode.NEGATIVE) for label, found in OPERATIONS.items() if list(found.query) or list(found.body)
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    bundle = write_toy_bundle(tmp_path_factory.mktemp("bundle") / "toy")
    digest = load_reference(bundle).info().features_digest
    chunk = encode_request(ChunkRequest(digest, MapOptions(), toy_cells(3)[0]))
    stored = tmp_path_factory.mktemp("stored") / "query.h5ad"
    toy_query(3).write_h5ad(stored)
    _send(MEDIA_TYPE, chunk)
    _send(BINARY, stored.read_bytes())
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"lab:{hashlib.sha256(KEY.encode()).hexdigest()}\n")
    keys.chmod(0o600)
    with running_server(bundle, tmp_path_factory.mktemp("home"), "--keys", keys) as server:
        yield server
    assert server.process.returncode == 0


def _send(media_type: str, body: bytes) -> None:
    """Have bodies of a kind be that one, or any bytes."""
    schemathesis.openapi.media_type(media_type, st.just(body) | st.binary())
    schemathesis.serializer(media_type)(lambda _, value: value)


@pytest.mark.parametrize(("label", "mode"), ASKED)
def test_routes_answer_as_described(server: RunningServer, label: str, mode: GenerationMode) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=OPERATIONS[label].as_strategy(mode))
    def ask(case: schemathesis.Case) -> None:
        case.call_and_validate(base_url=server.url, headers=WITH_KEY, checks=CHECKS, timeout=60)

    ask()


@pytest.mark.parametrize("label", sorted(set(OPERATIONS) - set(PROBES)))
def test_whoever_has_no_key_is_refused_as_described(server: RunningServer, label: str) -> None:
    @settings(max_examples=1, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=OPERATIONS[label].as_strategy())
    def ask(case: schemathesis.Case) -> None:
        without = {"Authorization": "Bearer another key"}
        answer = case.call_and_validate(base_url=server.url, headers=without, checks=CHECKS, timeout=60)
        assert answer.status_code == httpx.codes.UNAUTHORIZED

    ask()


def test_a_path_with_a_line_break_is_refused_like_any_other(server: RunningServer) -> None:
    with httpx.Client(base_url=server.url, headers=WITH_KEY, trust_env=False) as web:
        first, second = (web.get(f"/{path}%0A/x") for path in ("v1/uploads", "v2/models"))

    assert (first.status_code, first.json()["error"]["type"]) == (404, "EndpointError")
    assert (second.status_code, "line break" in second.json()["error"]) == (404, True)
