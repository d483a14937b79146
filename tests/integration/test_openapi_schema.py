"""Every route that the endpoint describes, asked as its description allows and as it does not, by schemathesis.

``TOTALANVI_SCHEMA_EXAMPLES=500 pytest tests/integration/test_openapi_schema.py`` draws that many requests for each.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.support.server import running_server
from tests.support.toy_bundle import write_toy_bundle

EXAMPLES = int(os.environ.get("TOTALANVI_SCHEMA_EXAMPLES", "5"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[schemathesis.BaseSchema]:
    bundle = write_toy_bundle(tmp_path_factory.mktemp("bundle") / "toy")
    with running_server(bundle, tmp_path_factory.mktemp("home")) as server:
        config = schemathesis.Config.from_dict({"generation": {"mode": "all"}})
        yield schemathesis.openapi.from_url(f"{server.url}/v1/openapi.json", config=config)
    assert server.process.returncode == 0


schema = schemathesis.pytest.from_fixture("described")


@schema.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_routes_answer_as_described(case: schemathesis.Case) -> None:
    case.call_and_validate(checks=CHECKS, timeout=60)
