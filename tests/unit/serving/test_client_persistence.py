"""A client that waits, gives up, goes on where it was, and is awaited, at a real server that fails when told to."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.command_line import Run
from tests.support.site import Site
from tests.support.toy_bundle import toy_query

from totalanvi.serving.client import AsyncClient, Client
from totalanvi.serving.client.patience import Patience
from totalanvi.serving.client.transport import Transport
from totalanvi.serving.errors import BusyError, DeadlineError, EndpointError, OutOfTimeError, QuotaError


def guesses(annotated: Any) -> list[str]:
    return list(annotated.obs["totalanvi_guess"])


def test_an_interrupted_query_goes_on_where_it_was(site: Site, tmp_path: Path) -> None:
    query = toy_query(100)
    folder = tmp_path / "answers"
    options: dict[str, Any] = {"chunk_cells": 10, "concurrency": 1, "retries": 0, "resume": folder}
    site.fails_from = 6
    with Client(site.url, **options) as client, pytest.raises(EndpointError, match="out of order"):
        client.map(query)
    kept = list(folder.iterdir())
    assert len(kept) == 6

    kept[0].write_bytes(b"damaged")
    site.fails_from, site.chunks = float("inf"), 0
    with Client(site.url, **options) as client:
        assert guesses(client.map(query)) == list(query.obs["truth"])
        assert site.chunks == 5
        assert guesses(client.map(query)) == list(query.obs["truth"])
        assert site.chunks == 5
        client.map(query, samples=1)
        assert site.chunks == 15
        (folder / "anothers.answer").write_bytes(b"")
        client.forget_answers()
    assert [path.name for path in folder.iterdir()] == ["anothers.answer"]


def test_the_command_line_resumes_and_tidies_up(site: Site, tmp_path: Path, run: Run) -> None:
    toy_query(40).write_h5ad(tmp_path / "query.h5ad")
    words = ("map", site.url, tmp_path / "query.h5ad", "-o", tmp_path / "out.parquet", "--batch-size", 10)
    site.fails_from = 2
    assert run(*words, "--resume", tmp_path / "answers")[0] == 2
    assert len(list((tmp_path / "answers").iterdir())) == 2
    assert not (tmp_path / "out.parquet").exists()

    site.fails_from = float("inf")
    code, _, said = run(*words, "--resume", tmp_path / "answers")

    assert code == 0, said
    assert not (tmp_path / "answers").exists()
    code, _, said = run("map", tmp_path / "bundle", tmp_path / "query.h5ad", "-o", "x.parquet", "--resume", tmp_path)
    assert code == 2
    assert "URL" in said


def test_a_query_that_takes_too_long_is_given_up(site: Site) -> None:
    site.fails_from, site.error = 1, BusyError("busy", retry_after=1)
    started = time.perf_counter()
    with (
        Client(site.url, chunk_cells=10, retries=1000, deadline=1.5) as client,
        pytest.raises(OutOfTimeError, match=r"within 1\.5 s; found that cells are left"),
    ):
        client.map(toy_query(50))
    assert time.perf_counter() - started < 10


def test_each_query_has_the_time_anew(site: Site) -> None:
    with Client(site.url, deadline=20) as client:
        client.map(toy_query(5))
        first = client._for_query()._patience
        second = client._for_query()._patience
    assert first is not second
    assert client.with_patience(Patience())._info is not None


def test_a_wait_that_is_announced_is_waited_and_a_quota_is_not(site: Site) -> None:
    site.fails_from, site.error = 0, BusyError("busy", retry_after=2)
    with Client(site.url, retries=1) as client:
        started = time.perf_counter()
        with pytest.raises(BusyError):
            client.map(toy_query(5))
        assert time.perf_counter() - started >= 2
        assert site.chunks == 2

        site.error, site.chunks = QuotaError("used up", retry_after=5000), 0
        with pytest.raises(QuotaError):
            client.map(toy_query(5))
        assert site.chunks == 1


def test_an_answer_may_take_no_longer_than_the_query() -> None:
    patience = Patience(seconds=0.05)
    assert patience.remaining(120) <= 0.05
    with pytest.raises(OutOfTimeError, match="deadline="):
        patience.wait(1, 0)
    time.sleep(0.05)
    with pytest.raises(OutOfTimeError, match=r"within 0\.05 s"):
        Transport("http://localhost:9", timeout=5, retries=0).with_patience(patience).get("/v1/info")


def test_what_was_given_up_waits_no_more() -> None:
    patience = Patience()
    threading.Timer(0.1, patience.give_up).start()
    started = time.perf_counter()
    with pytest.raises(DeadlineError, match="given up"):
        patience.wait(1, 60)
    assert time.perf_counter() - started < 30


def test_calls_may_be_awaited(site: Site) -> None:
    first, second = toy_query(60, seed=3), toy_query(50, seed=4)

    async def ask() -> tuple[Any, Any]:
        async with AsyncClient(site.url, chunk_cells=10) as reference:
            assert (await reference.info()).name == "toy"
            assert (await reference.features()).proteins
            assert (reference.url, reference.in_flight, reference.chunk_cells) == (site.url, 4, 10)
            found = await asyncio.gather(reference.map(first), reference.map(second, impute=False))
            assert "toy" in repr(reference)
            return tuple(found)

    one, other = asyncio.run(ask())

    assert guesses(one) == list(first.obs["truth"])
    assert guesses(other) == list(second.obs["truth"])
    with Client(site.url) as client:
        np.testing.assert_array_equal(one.obsm["X_totalanvi"], client.map(first).obsm["X_totalanvi"])


def test_a_call_that_is_cancelled_sends_nothing_more(site: Site) -> None:
    site.fails_from, site.error = 0, BusyError("busy", retry_after=1)

    async def ask() -> int:
        async with AsyncClient(site.url, chunk_cells=1, retries=1000) as reference:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.7):
                    await reference.map(toy_query(40))
            # Another call has a patience of its own.
            assert (await reference.info()).name == "toy"
            await asyncio.sleep(0.2)
            before = site.chunks
            await asyncio.sleep(1.5)
            return site.chunks - before

    assert asyncio.run(ask()) == 0


def test_the_surface_is_the_clients() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert public(Client) - public(AsyncClient) == {"forget_answers", "landmarks", "remember", "with_patience"}
    assert public(AsyncClient) <= public(Client)
    assert AsyncClient.map.__doc__ == Client.map.__doc__
