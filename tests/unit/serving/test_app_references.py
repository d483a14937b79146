"""Several references behind one address: how a request names one, and what it is told when it names none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.support.server import app_in_thread
from tests.support.toy_bundle import TOY, toy_cells, toy_query, write_toy_bundle

from totalanvi.serving import load_reference
from totalanvi.serving.client import Client
from totalanvi.serving.endpoint.app import create_app
from totalanvi.serving.endpoint.catalogue import Catalogue
from totalanvi.serving.endpoint.references import References
from totalanvi.serving.endpoint.routes import Endpoint
from totalanvi.serving.errors import EndpointError, TooLargeError, UnknownReferenceError
from totalanvi.serving.mapped import MapOptions
from totalanvi.serving.wire.chunks import MEDIA_TYPE, ChunkRequest, decode_response, encode_request
from totalanvi.serving.wire.limits import Limits

ONE_CELL = {"cells": [{"genes": {"GENE000": 9, "GENE001": 8}}]}
ARROW = {"Content-Type": MEDIA_TYPE}


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Endpoint:
    folder = tmp_path_factory.mktemp("several")
    names = (("pbmc", "1"), ("pbmc", "2"), ("bone marrow", "1"))
    bundles = [write_toy_bundle(folder / f"{place}", name, version) for place, (name, version) in enumerate(names)]
    endpoint = Endpoint(Limits(max_nonzeros=2000), References(Catalogue(bundles)))
    endpoint.references.look()
    return endpoint


@pytest.fixture(scope="module")
def web(endpoint: Endpoint) -> Iterator[httpx.Client]:
    with app_in_thread(create_app(endpoint)) as client:
        yield client


def named(answer: httpx.Response) -> tuple[str, str]:
    body = answer.json()
    found = body.get("reference", body)
    return found["name"], found["version"]


def chunk(endpoint: Endpoint, reference: str | None) -> bytes:
    digest = endpoint.references.find(None).info.features_digest
    return encode_request(ChunkRequest(digest, MapOptions(), toy_cells(3)[0], reference))


def test_all_references_are_listed(web: httpx.Client) -> None:
    listed = web.get("/v1/references").json()["references"]

    assert [(one["name"], one["version"]) for one in listed] == [("bone marrow", "1"), ("pbmc", "2"), ("pbmc", "1")]
    assert [one["default"] for one in listed] == [False, False, True]
    assert listed[2]["loaded"]
    assert listed[0]["n_genes"] == len(TOY.genes)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, ("pbmc", "1")),
        ({"reference": "pbmc"}, ("pbmc", "2")),
        ({"reference": "pbmc@1"}, ("pbmc", "1")),
        ({"reference": "bone marrow"}, ("bone marrow", "1")),
    ],
)
def test_a_request_names_a_reference_in_its_address_or_its_body(
    web: httpx.Client, endpoint: Endpoint, asked: dict[str, str], found: tuple[str, str]
) -> None:
    assert named(web.get("/v1/info", params=asked)) == found
    assert web.get("/v1/features", params=asked).json()["digest"] == endpoint.references.find(None).info.features_digest
    assert web.get("/v1/labels", params=asked).json() == {"labels": TOY.labels}
    assert named(web.post("/v1/predict", params=asked, json=ONE_CELL)) == found
    assert named(web.post("/v1/predict", json=ONE_CELL | asked)) == found
    for params, within in ((asked, None), ({}, asked.get("reference"))):
        answer = web.post("/v1/map", params=params, content=chunk(endpoint, within), headers=ARROW)
        received = decode_response(answer.content, n_cells=3, n_labels=4, n_names=6, n_latent=5, n_proteins=6)
        assert (received.reference.name, received.reference.version) == found


@pytest.mark.parametrize("path", ["/v1/info", "/v1/features", "/v1/labels"])
def test_an_unknown_name_is_404_and_lists_what_there_is(web: httpx.Client, path: str) -> None:
    answer = web.get(path, params={"reference": "kidney"})

    assert answer.status_code == 404
    fault = answer.json()["error"]
    assert fault["type"] == "UnknownReferenceError"
    assert all(name in fault["message"] for name in ("'pbmc@2'", "'pbmc@1'", "'bone marrow@1'", "'kidney'"))


def test_an_unknown_name_with_cells_is_404(web: httpx.Client, endpoint: Endpoint) -> None:
    answers = (
        web.post("/v1/predict", json=ONE_CELL | {"reference": "kidney"}),
        web.post("/v1/predict?reference=pbmc@3", json=ONE_CELL),
        web.post("/v1/map", content=chunk(endpoint, "kidney"), headers=ARROW),
    )
    assert {answer.status_code for answer in answers} == {404}


def test_two_names_in_one_request_are_refused(web: httpx.Client) -> None:
    answer = web.post("/v1/predict?reference=pbmc", json=ONE_CELL | {"reference": "bone marrow"})

    assert answer.status_code == 422
    assert "name it once" in answer.json()["error"]["message"]


def test_too_many_counts_are_refused(web: httpx.Client, endpoint: Endpoint) -> None:
    cells = toy_cells(200)[0]
    assert cells.rna.nnz > endpoint.limits.max_nonzeros
    body = encode_request(ChunkRequest(endpoint.references.find(None).info.features_digest, MapOptions(), cells))

    answer = web.post("/v1/map", content=body, headers=ARROW)

    assert (answer.status_code, answer.json()["error"]["type"]) == (413, "TooLargeError")


def test_the_client_sends_no_more_counts_at_a_time(web: httpx.Client, endpoint: Endpoint) -> None:
    query = toy_query(200)

    with Client(str(web.base_url)) as client:
        assert len(client.map(query, samples=1)) == len(query)


def test_a_cell_with_too_many_counts_is_told(web: httpx.Client) -> None:
    with Client(str(web.base_url)) as client:
        limits = client.info().limits.model_copy(update={"max_nonzeros": 1})
        client._info = client.info().model_copy(update={"limits": limits})
        with pytest.raises(TooLargeError, match="TOTALANVI_MAX_NONZEROS"):
            client.score(toy_cells(2)[0], MapOptions())


def reference_of(client: Any) -> tuple[str, str]:
    found = client.map(toy_query(5), samples=1).uns["totalanvi"]["reference"]
    return found["name"], found["version"]


def test_the_client_chooses_a_reference(web: httpx.Client) -> None:
    url = str(web.base_url).rstrip("/")
    with (
        Client(url) as usual,
        Client(url, reference="pbmc") as newest,
        Client(f"{url}/?reference=bone+marrow") as other,
    ):
        assert reference_of(usual) == ("pbmc", "1")
        assert reference_of(newest) == ("pbmc", "2")
        assert reference_of(other) == ("bone marrow", "1")
        assert (other.url, other.reference) == (url, "bone marrow")
    assert reference_of(load_reference(f"{url}?reference=pbmc@2")) == ("pbmc", "2")


def test_a_client_of_an_unknown_reference_is_told_what_there_is(web: httpx.Client) -> None:
    with Client(str(web.base_url), reference="kidney") as client, pytest.raises(UnknownReferenceError, match="pbmc@2"):
        client.info()


@pytest.mark.parametrize(
    "url",
    ["http://localhost?other=1", "http://localhost?reference=a&other=1", "http://localhost?x", "http://[?reference=a"],
)
def test_other_questions_in_a_url_are_refused(url: str) -> None:
    with pytest.raises(EndpointError, match="found another form"):
        Client(url)


def test_a_url_and_an_argument_must_not_name_two() -> None:
    with pytest.raises(EndpointError, match="name the reference once"):
        Client("http://localhost?reference=a", reference="b")
