"""A client whose endpoint changes under it; for the plain cases see tests/integration/test_endpoint.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send
from tests.support.server import app_in_thread, endpoint_of
from tests.support.toy_bundle import TOY, toy_cells, toy_query, write_toy_bundle

from totalanvi.serving.client import Client
from totalanvi.serving.endpoint.app import create_app
from totalanvi.serving.errors import StaleFeaturesError, TooLargeError
from totalanvi.serving.mapped import MapOptions
from totalanvi.serving.wire.limits import Limits


@dataclass
class Site:
    """An address where one application or another answers."""

    apps: dict[str, ASGIApp]
    now: str
    url: str = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.apps[self.now](scope, receive, send)


def served(bundle: Path, limits: Limits | None = None) -> ASGIApp:
    endpoint = endpoint_of(bundle, limits)
    endpoint.references.look()
    return create_app(endpoint)


@pytest.fixture(scope="module")
def apps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ASGIApp]:
    folder = tmp_path_factory.mktemp("bundles")
    first, second = (write_toy_bundle(folder / version, version=version) for version in ("1", "2"))
    return {"1": served(first), "2": served(second), "narrow": served(first, Limits(max_body_bytes=1024))}


@pytest.fixture
def site(apps: dict[str, ASGIApp]) -> Iterator[Site]:
    site = Site(apps, now="1")
    with app_in_thread(Starlette(routes=[Mount("/", site)])) as web:
        site.url = str(web.base_url)
        yield site


def test_a_reference_that_was_replaced_is_noticed_by_the_next_query(site: Site) -> None:
    query = toy_query(10)
    with Client(site.url) as client:
        before = client.map(query).uns["totalanvi"]["reference"]["version"]
        site.now = "2"
        after = client.map(query).uns["totalanvi"]["reference"]["version"]

    assert (before, after) == ("1", "2")


def test_answers_of_two_references_are_never_mixed(site: Site) -> None:
    with Client(site.url) as client:
        client.info()
        site.now = "2"
        with pytest.raises(StaleFeaturesError, match="Map the query again"):
            client.score(toy_cells(5)[0], MapOptions())


def test_a_cell_that_is_too_large_alone_is_told(site: Site) -> None:
    site.now = "narrow"
    with Client(site.url) as client, pytest.raises(TooLargeError, match="TOTALANVI_MAX_BODY_BYTES"):
        client.score(toy_cells(3)[0], MapOptions())


def test_a_client_knows_where_it_asks(site: Site) -> None:
    with Client(site.url + "/", concurrency=3) as client:
        assert client.url == site.url.rstrip("/")
        assert client.in_flight == 3
        assert client.features.labels == tuple(TOY.labels)
