"""The options of `map`, wherever they are asked for, and what a reference shows of itself."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from tests.support.server import app_in_thread, endpoint_of

from totalanvi.serving import load_reference
from totalanvi.serving.client import Client
from totalanvi.serving.commands_map import map_query
from totalanvi.serving.endpoint.app import create_app
from totalanvi.serving.mapped import MapOptions
from totalanvi.serving.mapping.local import LocalReference
from totalanvi.serving.wire.schemas import PredictOptions

OPTIONS = {field.name: field.default for field in fields(MapOptions)}


def defaults(function: Any) -> dict[str, Any]:
    return {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}


def test_a_client_and_a_bundle_take_the_same() -> None:
    assert inspect.signature(Client.map) == inspect.signature(LocalReference.map)
    assert Client.map.__doc__ == LocalReference.map.__doc__


@pytest.mark.parametrize(
    "found",
    [
        defaults(LocalReference.map),
        defaults(map_query),
        {name: field.default for name, field in PredictOptions.model_fields.items()},
    ],
    ids=["map", "command line", "JSON"],
)
def test_options_and_their_defaults_are_the_same_everywhere(found: dict[str, Any]) -> None:
    assert {name: found.get(name, "missing") for name in OPTIONS} == OPTIONS


@pytest.fixture
def url(toy_folder: Path) -> Iterator[str]:
    endpoint = endpoint_of(toy_folder)
    endpoint.references.look()
    with app_in_thread(create_app(endpoint)) as web:
        yield str(web.base_url)


def test_a_bundle_shows_what_it_knows(toy_folder: Path) -> None:
    assert repr(load_reference(toy_folder)).splitlines() == [
        f"LocalReference('{toy_folder}'): toy 1, trained on 1,000 cells",
        "    labels: 4 ('B cell', 'CD4 T', 'CD8 T', 'NK')",
        "    genes: 60",
        "    proteins: 6 ('CD19', 'CD4', 'CD8a', 'CD56', 'CD45' and 1 more)",
        "    batches: 2 ('run1', 'run2')",
    ]


def test_a_client_shows_what_it_was_told_and_asks_nobody(url: str) -> None:
    assert repr(load_reference("http://localhost:9")) == "Client('http://localhost:9'), not asked yet"
    with Client(url) as client:
        client.info()
        first, *rest = repr(client).splitlines()
    assert first == f"Client('{client.url}'): toy 1, trained on 1,000 cells"
    assert rest[1] == "    genes: 60"
