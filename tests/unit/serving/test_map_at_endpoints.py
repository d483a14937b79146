"""`totalanvi map` at an endpoint that goes away, has too little time, or refuses: single queries and jobs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import pytest
from tests.support.command_line import Run
from tests.support.files import contents, listing
from tests.support.queries import assert_three_parts, write_anndata
from tests.support.server import app_in_thread, endpoint_of
from tests.support.site import Site
from tests.support.toy_bundle import toy_query, write_toy_bundle

from totalanvi.serving.client import patience
from totalanvi.serving.client.patience import Deadline
from totalanvi.serving.endpoint.app import create_app
from totalanvi.serving.errors import (
    AccessError,
    BundleError,
    BusyError,
    CountsError,
    DeadlineError,
    FaultError,
    QuotaError,
    ServingError,
    StaleFeaturesError,
    TooLargeError,
    UnknownReferenceError,
    UnreachableError,
)
from totalanvi.serving.jobs.here import map_here
from totalanvi.serving.jobs.job import map_job
from totalanvi.serving.jobs.listed import Listed
from totalanvi.serving.jobs.outcome import QueryOutcome
from totalanvi.serving.jobs.worker import Setting
from totalanvi.serving.mapping.local import LocalReference

PLUG_IN = ("--samples", 1)


@pytest.fixture
def queries(tmp_path: Path) -> Path:
    """Three queries of 12 cells each in a folder."""
    folder = tmp_path / "queries"
    folder.mkdir()
    for seed in range(3):
        write_anndata(toy_query(12, seed), folder / f"donor{seed}.h5ad")
    return folder


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a client try again soon."""
    monkeypatch.setattr(patience, "_FIRST_WAIT", 0.001)


def test_a_query_that_takes_too_long_leaves_nothing(run: Run, site: Site, query: Path, tmp_path: Path) -> None:
    site.fails_from, site.error = 1, BusyError("busy", retry_after=1)
    words = ("map", site.url, query, "-o", tmp_path / "out.h5ad", "--batch-size", 5, *PLUG_IN)
    began = time.perf_counter()
    code, printed, said = run(*words, "--deadline", 1.5)
    assert time.perf_counter() - began < 10
    assert (code, printed, said.count("\n")) == (2, "", 1)
    assert_three_parts(said, "within 1.5 s", "cells are left", "--deadline")
    assert listing(tmp_path) == ["query.h5ad"]

    site.fails_from = float("inf")
    code, _, said = run(*words, "--deadline", 60)
    assert code == 0, said


def test_a_job_that_takes_too_long_can_be_gone_on_with(run: Run, site: Site, queries: Path, tmp_path: Path) -> None:
    scored = tmp_path / "scored"
    site.fails_from, site.error = 1, BusyError("busy", retry_after=1)
    words = ("map", site.url, queries, "--resume", scored, *PLUG_IN)
    code, printed, said = run(*words, "--deadline", 1.5)
    assert (code, said.count("\n")) == (2, 1)
    assert printed == "donor0: 12 cells in 1 part\n"
    assert_three_parts(said, "within 1.5 s", f"go on with --resume '{scored}'")
    assert [name for name in contents(scored) if name.endswith(".parquet")] == ["donor0/part-00000.parquet"]

    site.fails_from = float("inf")
    code, printed, said = run(*words, "--deadline", 60)
    assert code == 0, said
    assert "donor0: 12 cells in 1 part, 1 done by an earlier run\n" in printed


def test_a_deadline_is_that_of_all_workers() -> None:
    assert Deadline(60).patience().remaining(1000) == pytest.approx(60, abs=5)
    assert Deadline(60, began=time.time() - 40).patience().remaining(1000) == pytest.approx(20, abs=5)
    # Another machine's clock may be ahead.
    assert Deadline(60, began=time.time() + 40).patience().remaining(1000) == pytest.approx(60, abs=5)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("bundle/", "--deadline", 60), ("URL of an endpoint with --deadline", "'bundle/'", "Leave the option out")),
        (("bundle/", "--resume", "kept"), ("URL of an endpoint with --resume", "'bundle/'", "-o FOLDER/")),
        (("http://localhost:9", "--deadline", 0), ("more than 0 seconds", "found 0", "Allow more")),
        (("http://localhost:9", "--deadline", "nan"), ("more than 0 seconds", "found nan")),
    ],
)
def test_what_nothing_would_come_of_is_refused(
    run: Run, query: Path, tmp_path: Path, words: tuple[object, ...], parts: tuple[str, ...]
) -> None:
    code, printed, said = run("map", words[0], query, "-o", tmp_path / "out.h5ad", *words[1:])
    assert (code, printed, said.count("\n")) == (2, "", 1)
    assert_three_parts(said, *parts)


def test_a_job_ends_at_once_when_its_endpoint_is_gone(reference: LocalReference, queries: Path, tmp_path: Path) -> None:
    scored = tmp_path / "scored"
    endpoint = endpoint_of(reference.bundle.path, opened=lambda _: reference)
    endpoint.references.look()
    done, serving = [], ExitStack()

    def stop(outcome: QueryOutcome) -> None:
        done.append(outcome.query)
        serving.close()

    with serving:
        web = serving.enter_context(app_in_thread(create_app(endpoint)))
        with pytest.raises(UnreachableError) as gone:
            map_job(str(web.base_url), [str(queries)], scored, told=stop)
    assert done == ["donor0"]
    for part in ("found none", "tried", "totalanvi serve", f"go on with --resume '{scored}'"):
        assert part in str(gone.value)

    endpoint = endpoint_of(reference.bundle.path, opened=lambda _: reference)
    endpoint.references.look()
    with app_in_thread(create_app(endpoint)) as web:
        summary = map_job(str(web.base_url), [str(queries)], scored, start="resume")
    assert (summary.done, summary.failed) == (3, 0)
    assert [query.parts_before for query in summary.queries] == [1, 0, 0]


@pytest.mark.parametrize(
    "error",
    [CountsError("such counts are refused"), TooLargeError("too many of them"), FaultError("failed at this request")],
    ids=lambda error: type(error).__name__,
)
def test_what_an_endpoint_refuses_of_a_query_fails_that_query(
    run: Run, site: Site, queries: Path, tmp_path: Path, error: ServingError
) -> None:
    site.fails_from, site.error = 1, error
    code, printed, said = run("map", site.url, queries, "-o", f"{tmp_path}/scored/", *PLUG_IN)
    assert code == 3
    assert "Queries:    1 done, 2 failed" in printed
    assert said.count("\n") == 2
    assert said.count(str(error)) == 2


@pytest.mark.parametrize(
    ("error", "n_asked"),
    [
        (AccessError("the key is no longer good"), 1),
        (QuotaError("the key is used up", retry_after=5000), 1),
        (BundleError("the reference is gone"), 1),
        (DeadlineError("no answer in time"), 3),
        (BusyError("every place is taken", retry_after=0), 9),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_an_endpoint_would_refuse_of_all_ends_a_job_once(
    run: Run, site: Site, queries: Path, tmp_path: Path, error: ServingError, n_asked: int
) -> None:
    scored = tmp_path / "scored"
    words = ("map", site.url, queries, "--resume", scored, *PLUG_IN)
    site.fails_from, site.error = 1, error
    code, printed, said = run(*words)
    assert (code, printed) == (2, "donor0: 12 cells in 1 part\n")
    assert said == f"Error: {error} What is done (1 of 3 queries) is kept: go on with --resume '{scored}'.\n"
    assert site.chunks == 1 + n_asked
    assert listing(scored) == ["_job", "donor0"]
    assert listing(scored / "_job" / "queries") == ["donor0", "donor1"], "the last one was not begun"

    site.fails_from, site.chunks = float("inf"), 0
    code, printed, said = run(*words)
    assert code == 0, said
    assert "donor0: 12 cells in 1 part, 1 done by an earlier run\n" in printed
    assert "Queries:    3 done\n" in printed
    assert site.chunks == 2


def test_a_replaced_reference_ends_a_job_once(
    run: Run, site: Site, queries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = endpoint_of(write_toy_bundle(tmp_path / "other", version="2", noise_seed=8))
    endpoint.references.look()
    scored, first, other = tmp_path / "scored", site.app, create_app(endpoint)

    def replace(_: QueryOutcome) -> None:
        site.app = other

    with pytest.raises(StaleFeaturesError) as ended:
        map_job(site.url, [str(queries)], scored, told=replace)
    for part in ("reference toy 1 (", "no longer there", "'toy@2'", "1 of 3 queries", "another folder", "--resume"):
        assert part in str(ended.value)
    assert listing(scored) == ["_job", "donor0"]

    code, _, said = run("map", site.url, queries, "--resume", scored, *PLUG_IN)
    assert code == 2
    assert_three_parts(said, "the reference toy 2 (", "the reference toy 1 (")
    site.app = first
    summary = map_job(site.url, [str(queries)], scored, start="resume")
    assert [query.parts_before for query in summary.queries] == [1, 0, 0]


@pytest.mark.parametrize("n_done", [0, 1])
def test_a_reference_that_is_gone_is_not_called_replaced(
    site: Site, queries: Path, tmp_path: Path, n_done: int
) -> None:
    endpoint = endpoint_of(write_toy_bundle(tmp_path / "other", name="liver"))
    endpoint.references.look()
    scored, other = tmp_path / "scored", create_app(endpoint)

    def gone_soon(setting: Setting, named: Mapping[str, Listed]) -> Iterator[QueryOutcome]:
        outcomes = map_here(setting, named)
        yield from islice(outcomes, n_done)
        site.app = other
        yield from outcomes

    with pytest.raises((UnknownReferenceError, StaleFeaturesError)) as ended:
        map_job(f"{site.url}?reference=toy", [str(queries)], scored, engine=gone_soon)
    said = str(ended.value)
    for part in ("reference toy 1 (", "no longer there", "'liver@1'", f"{n_done} of 3 queries", "--resume"):
        assert part in said
    assert "replaced" not in said
