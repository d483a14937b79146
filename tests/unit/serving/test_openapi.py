"""The description of the routes: valid, complete, and true of what is answered."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from starlette.routing import Route
from tests.support.server import app_in_thread, endpoint_of, wait_for
from tests.support.toy_bundle import TOY

from totalanvi.serving.endpoint.app import create_app
from totalanvi.serving.endpoint.openapi import openapi

BENTOML = {"/livez", "/readyz"}
"""Routes that are not the application's own."""


@pytest.fixture(scope="module")
def web(toy_folder: Path) -> Iterator[httpx.Client]:
    endpoint = endpoint_of(toy_folder)
    with app_in_thread(create_app(endpoint)) as client:
        wait_for(lambda: endpoint.ready)
        yield client


@pytest.fixture(scope="module")
def described(web: httpx.Client) -> dict[str, Any]:
    answer: dict[str, Any] = web.get("/v1/openapi.json").json()
    return answer


def test_the_description_is_valid(described: dict[str, Any]) -> None:
    validate(described)


def test_every_route_is_described_and_nothing_else(toy_folder: Path) -> None:
    app = create_app(endpoint_of(toy_folder))
    routes = {
        (route.path, method.lower())
        for route in app.routes
        # The page is for people.
        if isinstance(route, Route) and route.include_in_schema
        for method in (route.methods or set()) - {"HEAD"}
    }
    described = {(path, method) for path, methods in openapi()["paths"].items() for method in methods}

    assert described - {(path, "get") for path in BENTOML} == routes


def test_every_parameter_of_a_path_is_described(described: dict[str, Any]) -> None:
    for path, methods in described["paths"].items():
        names = set(re.findall(r"{(\w+)}", path))
        for operation in methods.values():
            known = described["components"]["parameters"]
            asked = operation.get("parameters", [])
            parameters = [known[one["$ref"].rsplit("/", 1)[1]] if "$ref" in one else one for one in asked]
            assert {one["name"] for one in parameters if one["in"] == "path"} == names


def follows(described: dict[str, Any], path: str, method: str, answer: httpx.Response) -> None:
    response = described["paths"][path][method]["responses"][str(answer.status_code)]
    media_type = answer.headers["content-type"].partition(";")[0]
    schema = response["content"][media_type].get("schema", {}) | {"components": described["components"]}
    Draft202012Validator(schema).validate(answer.json())


CELLS = {"cells": [{"genes": {TOY.genes[0]: 3}, "proteins": {TOY.proteins[0]: 3}}]}
TENSORS = {
    "inputs": [{"name": "rna", "shape": [1, len(TOY.genes)], "datatype": "INT32", "data": [1] * len(TOY.genes)}],
    "parameters": {"samples": 1},
}


@pytest.mark.parametrize(
    ("path", "asked", "body", "status"),
    [
        ("/v1/references", "/v1/references", None, 200),
        ("/v1/info", "/v1/info", None, 200),
        ("/v1/info", "/v1/info?reference=other", None, 404),
        ("/v1/features", "/v1/features", None, 200),
        ("/v1/labels", "/v1/labels", None, 200),
        ("/v1/predict", "/v1/predict", CELLS, 200),
        ("/v1/predict", "/v1/predict", CELLS | {"options": {"impute": False}}, 200),
        ("/v1/predict", "/v1/predict", {}, 422),
        ("/v2", "/v2", None, 200),
        ("/v2/models/{name}", "/v2/models/toy", None, 200),
        ("/v2/models/{name}", "/v2/models/other", None, 404),
        ("/v2/models/{name}/infer", "/v2/models/toy/infer", TENSORS, 200),
        ("/v2/models/{name}/infer", "/v2/models/toy/infer", {}, 422),
    ],
)
def test_answers_are_as_described(
    web: httpx.Client, described: dict[str, Any], path: str, asked: str, body: Any, status: int
) -> None:
    answer = web.get(asked) if body is None else web.post(asked, json=body)

    assert answer.status_code == status
    follows(described, path, "get" if body is None else "post", answer)
