"""Where a client's key goes: to the URL that it was given for, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.scripted import OK, Script, fault, scripted

from totalanvi.serving.client import Client
from totalanvi.serving.client.transport import Transport
from totalanvi.serving.errors import AccessError, EndpointError, QuotaError

KEY = "totalanvi_secret"


@pytest.fixture
def script() -> Iterator[Script]:
    with scripted() as script:
        script.answers = [OK]
        yield script


@pytest.fixture
def elsewhere() -> Iterator[Script]:
    with scripted() as script:
        script.answers = [OK]
        yield script


def ask(url: str, api_key: str | None = KEY) -> bytes:
    transport = Transport(url, timeout=5, retries=0, api_key=api_key)
    try:
        return transport.get("/v1/info")
    finally:
        transport.close()


def test_a_key_is_sent_with_every_request(script: Script) -> None:
    ask(script.url)
    ask(script.url, api_key=None)

    assert script.headers[0]["authorization"] == f"Bearer {KEY}"
    assert "authorization" not in script.headers[1]


def test_the_environment_may_hold_the_key(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOTALANVI_API_KEY", KEY)
    with Client(script.url) as client, Client(script.url, api_key="another") as other:
        for one in (client, other):
            with pytest.raises(EndpointError):
                one.info()

    assert [headers["authorization"] for headers in script.headers] == [f"Bearer {KEY}", "Bearer another"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_nobody_can_send_it_elsewhere(script: Script, elsewhere: Script, status: int) -> None:
    script.answers = [(status, b"", {"Location": f"{elsewhere.url}/v1/info"})]

    with pytest.raises(EndpointError, match=f"status {status}"):
        ask(script.url)

    assert elsewhere.asked == []


def test_no_proxy_sees_what_stays_on_this_machine(
    script: Script, elsewhere: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, elsewhere.url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)

    ask(script.url)

    assert len(script.asked) == 1
    assert elsewhere.asked == []


@pytest.mark.parametrize(
    "url", ["http://lab.org", "http://10.0.0.1:3000", "http://127.0.0.1.lab.org", "http://LAB.org"]
)
def test_it_does_not_travel_in_the_clear(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EndpointError, match="expected https://") as caught:
        Client(url, api_key=KEY)
    assert KEY not in str(caught.value)

    for reachable in (url.replace("http:", "https:"), "http://localhost:3000", "http://[::1]:3000"):
        Client(reachable, api_key=KEY).close()
    Client(url).close()
    Client(url, api_key=KEY, allow_plain_http=True).close()
    monkeypatch.setenv("TOTALANVI_ALLOW_PLAIN_HTTP", "1")
    Client(url, api_key=KEY).close()


@pytest.mark.parametrize("key", ["", "hidden words\n", "hiddén", " hidden"])
def test_what_is_no_key_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(EndpointError, match="printable ASCII") as caught:
        Client("http://localhost:3000", api_key=key)
    assert "hidd" not in str(caught.value)


def test_an_address_holds_no_password() -> None:
    with pytest.raises(EndpointError, match="without a password") as caught:
        Client("https://me:hidden@lab.org")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(("kind", "status"), [(AccessError, 401), (QuotaError, 429)])
def test_refusals_are_the_same_class_here(script: Script, kind: type, status: int) -> None:
    script.answers = [fault(kind.__name__, status)]

    with pytest.raises(kind, match="what and why"):
        ask(script.url)
