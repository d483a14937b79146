"""Requests to an endpoint that answers late, wrongly, or not at all: a scripted server on a real socket."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from tests.support.scripted import OK, Answer, Script, fault, scripted

from totalanvi.export.demo_endpoint import free_port
from totalanvi.serving.client import Client, patience
from totalanvi.serving.client.transport import Transport
from totalanvi.serving.errors import (
    BundleError,
    BusyError,
    CountsError,
    DeadlineError,
    EndpointError,
    FaultError,
    NotReadyError,
    StaleFeaturesError,
)
from totalanvi.serving.wire.protocol import PROTOCOL


@pytest.fixture
def script() -> Iterator[Script]:
    with scripted() as script:
        yield script


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_FIRST_WAIT", 0.01)


def ask(script: Script, *answers: Answer, retries: int = 5, timeout: float = 5) -> bytes:
    script.answers = list(answers)
    return Transport(script.url, timeout, retries).post("/v1/map", b"chunk", {})


@pytest.mark.parametrize(
    "passing",
    [
        fault("BusyError", 429),
        fault("NotReadyError", 503),
        fault("DeviceError", 503),
        (502, b"<html>bad gateway</html>", {}),
        (503, b"", {}),
    ],
)
def test_what_passes_is_waited_for(script: Script, passing: Answer) -> None:
    assert ask(script, passing, passing, OK) == b"whole"
    assert len(script.asked) == 3


def test_a_lost_connection_is_tried_again(script: Script) -> None:
    assert ask(script, OK, None) == b"whole"
    assert ask(script, None, OK) == b"whole"


def test_retry_after_is_heeded(script: Script) -> None:
    started = time.perf_counter()

    assert ask(script, fault("BusyError", 429, **{"Retry-After": "1"}), OK) == b"whole"

    assert time.perf_counter() - started >= 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (fault("CountsError", 422), CountsError),
        (fault("StaleFeaturesError", 409), StaleFeaturesError),
        (fault("BundleError", 503), BundleError),
        (fault("FaultError", 500), FaultError),
        (fault("SomethingNewer", 400), EndpointError),
        (fault("ServingError.__init__", 400), EndpointError),
    ],
)
def test_what_does_not_pass_is_raised_at_once_as_what_it_is(script: Script, answer: Answer, kind: type) -> None:
    with pytest.raises(kind, match="what and why") as caught:
        ask(script, answer)

    assert type(caught.value) is kind
    assert len(script.asked) == 1


@pytest.mark.parametrize(
    ("answer", "kind"), [(fault("BusyError", 429), BusyError), (fault("NotReadyError", 503), NotReadyError)]
)
def test_patience_ends(script: Script, answer: Answer, kind: type) -> None:
    with pytest.raises(kind):
        ask(script, answer, retries=2)

    assert len(script.asked) == 3


def test_an_answer_that_takes_too_long_is_asked_for_again_twice(script: Script) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for retries, tried in ((50, "3 times"), (0, "once")):
            with pytest.raises(DeadlineError, match=rf"within 0\.2 s.*tried {tried}.*--batch-size.*longer timeout"):
                Transport(url, timeout=0.2, retries=retries).get("/v1/info")

    late = fault("DeadlineError", 504)
    assert ask(script, OK, late, late, OK) == b"whole"
    script.asked.clear()
    with pytest.raises(DeadlineError, match="what and why"):
        ask(script, late, retries=50)
    assert len(script.asked) == 3


def test_nobody_there_is_told_with_what_was_tried() -> None:
    url = f"http://127.0.0.1:{free_port()}"

    with pytest.raises(EndpointError, match=r"tried 3 times.*totalanvi serve") as caught:
        Transport(url, timeout=5, retries=50).get("/v1/info")

    assert url in str(caught.value)


@pytest.mark.parametrize(
    "url", ["localhost:3000", "ftp://localhost", "http://", "http://[", "http://localhost:99999", "bundle/"]
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(EndpointError, match="URL"):
        Client(url)


@pytest.mark.parametrize(
    ("url", "near"),
    [
        ("http://localhost:3000", True),
        ("http://127.0.0.1", True),
        ("http://[::1]:80", True),
        ("https://lab.org", False),
    ],
)
def test_this_machine_is_told_by_its_address(url: str, near: bool) -> None:
    assert Transport(url, timeout=1, retries=0).is_loopback is near


@pytest.mark.parametrize(("concurrency", "chunk_cells"), [(0, 10), (1, 0)])
def test_a_client_needs_something_to_do(concurrency: int, chunk_cells: int) -> None:
    with pytest.raises(EndpointError, match="at least one"):
        Client("http://localhost:3000", concurrency=concurrency, chunk_cells=chunk_cells)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((200, b"<html>", {}), "something else that answers"),
        ((200, b"[]", {}), "something else that answers"),
        ((200, b'{"name": "another service"}', {}), "something else that answers"),
        ((200, b'{"protocol": 99}', {}), "upgrade totalanvi at this end"),
        ((200, b'{"protocol": 0}', {}), "upgrade totalanvi at the endpoint"),
        ((200, b'{"protocol": %d}' % PROTOCOL, {}), "cannot be understood"),
        ((404, b"Not Found", {}), "status 404"),
        ((301, b"", {"Location": "https://elsewhere"}), "status 301"),
    ],
)
def test_what_is_no_endpoint_of_ours_is_told(script: Script, answer: Answer, message: str) -> None:
    script.answers = [answer]

    with Client(script.url + "/") as client, pytest.raises(EndpointError, match=message):
        client.info()
