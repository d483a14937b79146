"""What an endpoint logs: which request it was and how it went, and nothing of what was in it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.support.server import app_in_thread, endpoint_of, wait_for
from tests.support.toy_bundle import TOY, toy_cells

from totalanvi.serving.endpoint.app import create_app
from totalanvi.serving.endpoint.request_log import JsonLines, note
from totalanvi.serving.mapped import MapOptions
from totalanvi.serving.mapping.local import LocalReference
from totalanvi.serving.wire.chunks import MEDIA_TYPE, ChunkRequest, encode_request

MARKED = 987654
"""A count that stands in no other place."""


class Broken(LocalReference):
    """A reference with a bug, whose message holds what a client sent."""

    def score(self, cells: Any, *_: Any) -> Any:
        raise RuntimeError(f"{MARKED} {cells.rna.data}")


@pytest.fixture
def web(reference: LocalReference, lines: io.StringIO) -> Iterator[httpx.Client]:
    endpoint = endpoint_of(reference.bundle.path, opened=lambda _: reference)
    with app_in_thread(create_app(endpoint)) as client:
        wait_for(lambda: endpoint.ready)
        yield client


def records(lines: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.getvalue().splitlines()]


def answered(lines: io.StringIO) -> dict[str, Any]:
    wait_for(lambda: any(record["message"] == "answered" for record in records(lines)))
    return next(record for record in records(lines) if record["message"] == "answered")


def test_a_request_keeps_its_id_and_its_line_says_how_it_went(web: httpx.Client, lines: io.StringIO) -> None:
    body = {"cells": [{"genes": {TOY.genes[0]: 9, TOY.genes[1]: 8}}, {"genes": {TOY.genes[0]: 1}}]}

    answer = web.post("/v1/predict", json=body, headers={"X-Request-ID": "mine-1.2_3"})

    assert answer.headers["x-request-id"] == "mine-1.2_3"
    line = answered(lines)
    assert {name: line[name] for name in ("request_id", "method", "path", "status", "reference")} == {
        "request_id": "mine-1.2_3",
        "method": "POST",
        "path": "/v1/predict",
        "status": 200,
        "reference": "toy@1",
    }
    assert (line["cells"], line["nonzeros"]) == (2, 3)
    assert line["seconds"] > 0


@pytest.mark.parametrize("sent", [None, "", "a b", "x" * 65, 'a"}', "a\tb"])
def test_an_id_that_is_no_plain_name_is_replaced(web: httpx.Client, sent: str | None) -> None:
    first, second = (
        web.get("/v1/info", headers={} if sent is None else {"X-Request-ID": sent}).headers["x-request-id"]
        for _ in range(2)
    )

    assert len(first) == 32
    assert first != second


def test_errors_and_unknown_paths_have_an_id_and_a_line_too(web: httpx.Client, lines: io.StringIO) -> None:
    for path, status in (("/v1/nothing", 404), ("/v1/map", 405), ("/v1/info?reference=other", 404)):
        answer = web.get(path)
        assert answer.status_code == status
        request_id = answer.headers["x-request-id"]
        wait_for(lambda name=request_id: any(record.get("request_id") == name for record in records(lines)))
        (line,) = [record for record in records(lines) if record.get("request_id") == request_id]
        assert line["status"] == status


def test_scrapes_that_succeed_are_not_worth_a_line(web: httpx.Client, lines: io.StringIO) -> None:
    web.get("/metrics")
    web.get("/v1/info")

    assert answered(lines)["path"] == "/v1/info"


def test_a_fault_is_logged_under_the_requests_id(reference: LocalReference, lines: io.StringIO) -> None:
    endpoint = endpoint_of(reference.bundle.path, opened=Broken)
    with app_in_thread(create_app(endpoint)) as web:
        wait_for(lambda: endpoint.ready)
        answer = web.post(
            "/v1/predict", json={"cells": [{"genes": {TOY.genes[0]: MARKED}}]}, headers={"X-Request-ID": "bad"}
        )
        wait_for(lambda: len(of_request("bad", lines)) == 2)

    assert answer.status_code == 500
    fault, line = of_request("bad", lines)
    assert "RuntimeError" in fault["message"]
    assert (fault["level"], line["status"]) == ("ERROR", 500)
    assert str(MARKED) not in lines.getvalue()


def of_request(name: str, lines: io.StringIO) -> list[dict[str, Any]]:
    return [record for record in records(lines) if record.get("request_id") == name]


@pytest.mark.parametrize("count", [MARKED, -MARKED, MARKED + 0.5, MARKED * 10**6, f"{MARKED}", float("nan")])
def test_no_count_and_no_name_of_a_gene_or_cell_is_logged(
    web: httpx.Client, reference: LocalReference, lines: io.StringIO, count: Any
) -> None:
    secret = f"GENE{MARKED}"
    cells = [{"id": f"cell{MARKED}", "genes": {TOY.genes[0]: count, secret: 3}, "proteins": {f"CD{MARKED}": 3}}]
    as_json = {"Content-Type": "application/json"}
    web.post("/v1/predict", content=json.dumps({"cells": cells}), headers=as_json)
    web.post("/v1/predict", content=json.dumps({"cells": cells * 2, "measured_genes": [secret]}), headers=as_json)
    if isinstance(count, int):
        aligned = toy_cells(4)[0]
        aligned.rna.data[:] = count
        body = encode_request(ChunkRequest(reference.info().features_digest, MapOptions(), aligned))
        web.post("/v1/map", content=body, headers={"Content-Type": MEDIA_TYPE})
    wait_for(lambda: len(records(lines)) >= (3 if isinstance(count, int) else 2))

    assert str(MARKED) not in lines.getvalue()


def test_outside_of_a_request_nothing_is_noted() -> None:
    note(cells=5)
    record = logging.LogRecord("totalanvi", logging.INFO, "", 0, "Serving %s.", ("pbmc",), None)
    line = json.loads(JsonLines().format(record))

    assert line.keys() == {"time", "level", "logger", "message"}
