"""The Grafana dashboard asks for nothing that an endpoint does not count."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.support.server import app_in_thread, endpoint_of, wait_for
from tests.support.toy_bundle import TOY, toy_query

from totalanvi.serving.client import Client
from totalanvi.serving.endpoint.app import create_app
from totalanvi.serving.mapping.local import LocalReference

DASHBOARD = json.loads((Path(__file__).parents[3] / "deploy/grafana/totalanvi.json").read_text())
SET_BY_PROMETHEUS = {"job", "instance", "le"}


def queries() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    yield from (item["query"] for item in DASHBOARD["templating"]["list"] if item["type"] == "query")


def names_in(query: str) -> set[str]:
    return set(re.findall(r"\b(?:totalanvi|process)_\w+", query))


@pytest.fixture(scope="module")
def counted(toy_folder: Path) -> dict[str, set[str]]:
    """Names of all series of an endpoint at work, and their labels."""
    endpoint = endpoint_of(toy_folder)
    with app_in_thread(create_app(endpoint)) as web:
        wait_for(lambda: endpoint.ready)
        with Client(str(web.base_url)) as client:
            client.map(toy_query(9), samples=1)
        web.post("/v1/predict", json={"cells": [{"genes": {TOY.genes[0]: 3}}]})
        families = text_string_to_metric_families(web.get("/metrics").text)
        return {sample.name: set(sample.labels) for family in families for sample in family.samples}


@pytest.mark.parametrize("query", list(queries()))
def test_every_series_that_the_dashboard_asks_for_is_there(query: str, counted: dict[str, set[str]]) -> None:
    names = names_in(query)

    assert names
    assert names <= set(counted)


@pytest.mark.parametrize("query", list(queries()))
def test_every_label_that_the_dashboard_groups_by_is_there(query: str, counted: dict[str, set[str]]) -> None:
    grouped = {label.strip() for group in re.findall(r"by \(([^)]*)\)", query) for label in group.split(",")}
    filtered = set(re.findall(r'(\w+)=~"', query))
    labels = set().union(*(counted[name] for name in names_in(query)))

    assert grouped | filtered <= labels | SET_BY_PROMETHEUS


def test_panels_do_not_overlap_and_have_titles_of_their_own() -> None:
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]]
    titles = [panel["title"] for panel in DASHBOARD["panels"]]

    assert len(set(places)) == len(places)
    assert len(set(titles)) == len(titles)


def test_what_tells_of_drift_is_counted_by_reference(reference: LocalReference, toy_folder: Path) -> None:
    query = toy_query(40)
    expected = reference.map(query, samples=1)
    endpoint = endpoint_of(toy_folder)
    with app_in_thread(create_app(endpoint)) as web:
        wait_for(lambda: endpoint.ready)
        with Client(str(web.base_url)) as client:
            client.map(query, samples=1)
        values = by_name(web.get("/metrics").text)

    assert values["totalanvi_reference_cells_total"] == 40
    assert values["totalanvi_unknown_cells_total"] == (expected.obs["totalanvi_label"] == "unknown").sum()
    assert values["totalanvi_confidence_total"] == pytest.approx(expected.obs["totalanvi_confidence"].sum(), rel=1e-5)
    assert values["totalanvi_novelty_total"] == pytest.approx(expected.obs["totalanvi_novelty"].sum(), rel=1e-5)
    assert values["totalanvi_alignment_gene_weight_sum"] == pytest.approx(1)
    assert values["totalanvi_queue_seconds_count"] == 1
    assert values["totalanvi_batch_cells_sum"] == 40


def by_name(text: str) -> dict[str, Any]:
    families = text_string_to_metric_families(text)
    return {sample.name: sample.value for family in families for sample in family.samples}
