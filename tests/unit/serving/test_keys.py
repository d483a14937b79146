"""Keys of an endpoint: how they are made, read and read again, and what each may use."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import pytest
from tests.support.command_line import Run

from totalanvi.serving.addresses import is_loopback
from totalanvi.serving.endpoint.access.account import Accounts, acting_for, charge
from totalanvi.serving.endpoint.access.keys import Key, KeyFile, Keys, parse_keys
from totalanvi.serving.endpoint.access.settings import AccessSettings
from totalanvi.serving.errors import QuotaError, SettingsError

DIGEST = hashlib.sha256(b"secret").hexdigest()


class Clock:
    """Seconds, as a test sets them."""

    def __init__(self) -> None:
        self.now = 1_000_000 * 86_400.0

    def __call__(self) -> float:
        return self.now


def test_a_secret_is_found_among_several_keys() -> None:
    keys = Keys(parse_keys(f"# of the lab\n\na:{'0' * 64}\nb:{DIGEST} # ours\nc:{'f' * 64}\n", "here"))

    assert len(keys) == 3
    found = keys.find(b"secret")
    assert found is not None
    assert found.name == "b"
    assert keys.find(b"Secret") is None
    assert keys.find(b"") is None
    assert keys.find(DIGEST.encode()) is None


def test_limits_stand_behind_a_key() -> None:
    (key,) = parse_keys(f"lab:{DIGEST} cells_per_day=7 requests_per_minute=2", "here")

    assert (key.requests_per_minute, key.cells_per_day) == (2, 7)
    assert parse_keys(key.line(), "here") == [key]


@pytest.mark.parametrize(
    "line",
    [
        "lab",
        "lab:secret",
        f":{DIGEST}",
        f"a b:{DIGEST}",
        f"-lab:{DIGEST}",
        f"lab:{DIGEST} cells_per_day=0",
        f"lab:{DIGEST} cells_per_day=many",
        f"lab:{DIGEST} cells_per_day={'9' * 5000}",
        f"lab:{DIGEST} cells=5",
        f"lab:{DIGEST} cells_per_day",
        f"lab:{DIGEST} cells_per_day=1 cells_per_day=2",
        f"lab:{DIGEST} digest=5",
    ],
)
def test_a_line_that_is_no_key_is_named_but_not_repeated(line: str) -> None:
    with pytest.raises(SettingsError, match=r"keys\.txt, line 2") as caught:
        parse_keys(f"\n{line}", "keys.txt")

    assert DIGEST not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_name_stands_for_one_key() -> None:
    with pytest.raises(SettingsError, match="'lab' again"):
        parse_keys(f"lab:{DIGEST}\nlab:{'0' * 64}", "keys.txt")


def rewrite(path: Path, text: str) -> None:
    """Replace a file as an editor or a mounted secret does."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def test_a_file_of_keys_is_read_again_when_it_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "keys"
    path.write_text(f"old:{DIGEST}\n")
    keys = KeyFile(path)
    assert keys().find(b"secret") is not None

    rewrite(path, f"new:{hashlib.sha256(b'another').hexdigest()}\n")

    assert keys().find(b"secret") is None
    assert keys().find(b"another") == Key("new", hashlib.sha256(b"another").digest())
    with caplog.at_level(logging.ERROR):
        rewrite(path, "broken\n")
        assert keys().find(b"another") is not None
        path.unlink()
        assert keys().find(b"another") is not None
    assert caplog.text.count("The keys stay as they were") == 2
    rewrite(path, "# nobody\n")
    assert keys().find(b"another") is None


def test_a_file_without_keys_is_refused_at_first(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    with pytest.raises(SettingsError, match="cannot be read"):
        KeyFile(path)
    path.write_text("# nobody\n")
    with pytest.raises(SettingsError, match="found none; make one"):
        KeyFile(path)


def test_requests_come_back_evenly() -> None:
    clock = Clock()
    key = Key("lab", b"", requests_per_minute=3)
    account = Accounts(clock).of(key)
    for _ in range(3):
        account.admit(key)
    with pytest.raises(QuotaError, match="at most 3 requests a minute with the key 'lab'") as caught:
        account.admit(key)
    assert caught.value.retry_after == 20

    clock.now += 19
    with pytest.raises(QuotaError):
        account.admit(key)
    clock.now += 1
    account.admit(key)
    clock.now += 3600
    for _ in range(3):
        account.admit(key)
    with pytest.raises(QuotaError):
        account.admit(key)


def test_cells_come_back_at_midnight() -> None:
    clock = Clock()
    clock.now += 86_000
    key = Key("lab", b"", cells_per_day=10)
    accounts = Accounts(clock)
    account = accounts.of(key)
    account.admit(key)
    with acting_for(account):
        charge(6)
        with pytest.raises(QuotaError, match=r"at most 10 cells a day.*found 6 mapped and 5 more asked for"):
            charge(5)
        charge(4)
    with pytest.raises(QuotaError, match="found 10 mapped") as caught:
        account.admit(key)
    assert caught.value.retry_after == 400

    charge(1000)  # for nobody
    clock.now += 400
    accounts.of(key).admit(key)
    account.charge(10)


def test_a_limit_that_was_raised_holds_at_once() -> None:
    accounts = Accounts(Clock())
    accounts.of(Key("lab", b"")).charge(5)
    key = Key("lab", b"other", cells_per_day=5)
    with pytest.raises(QuotaError):
        accounts.of(key).admit(key)
    accounts.of(key).admit(Key("lab", b"other", cells_per_day=6))


def test_settings_come_from_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"lab:{DIGEST}")

    for environment in ({"TOTALANVI_KEYS_FILE": str(path)}, {"TOTALANVI_KEYS": f"lab:{DIGEST}\nx:{'0' * 64}"}):
        settings = AccessSettings.from_environment(environment)
        assert settings.keys is not None
        assert settings.keys().find(b"secret") is not None
    opened = AccessSettings.from_environment({"TOTALANVI_NO_AUTH": "1", "TOTALANVI_OPEN_METRICS": "true"})
    assert (opened.keys, opened.no_auth, opened.open_metrics) == (None, True, True)
    assert AccessSettings.from_environment({"TOTALANVI_NO_AUTH": "0"}) == AccessSettings()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"TOTALANVI_NO_AUTH": "maybe"}, "TOTALANVI_NO_AUTH: expected 1 or 0, found 'maybe'"),
        ({"TOTALANVI_NO_AUTH": "1", "TOTALANVI_KEYS": f"lab:{DIGEST}"}, "contradict"),
        ({"TOTALANVI_KEYS": "lab"}, "TOTALANVI_KEYS, line 1"),
        ({"TOTALANVI_KEYS_FILE": "/nowhere/keys"}, "/nowhere/keys"),
    ],
)
def test_settings_that_cannot_be_used_are_named(environment: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        AccessSettings.from_environment(environment)


@pytest.mark.parametrize(
    ("address", "near"),
    [
        ("127.0.0.1", True),
        ("127.8.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("::ffff:10.0.0.1", False),
        ("10.0.0.1", False),
        ("Localhost", True),
        ("127.0.0.1.lab.org", False),
    ],
)
def test_this_machine_is_told_by_its_address(address: str, near: bool) -> None:
    assert is_loopback(address) is near


def test_a_new_key_opens_what_its_line_stands_for(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "keys"

    code, first, said = run("new-key", "lab", "--keys", path, "--cells-per-day", 100)

    assert code == 0
    assert first.strip() not in said + path.read_text()
    os.truncate(path, path.stat().st_size - 1)  # an editor left out the last line's end
    code, second, _ = run("new-key", "class", "--keys", path, "--requests-per-minute", 9)
    assert code == 0
    keys = KeyFile(path)()
    found = [keys.find(printed.strip().encode()) for printed in (first, second)]
    assert [(key.name, key.cells_per_day, key.requests_per_minute) for key in found if key] == [
        ("lab", 100, None),
        ("class", None, 9),
    ]


def test_a_new_key_without_a_file_tells_its_line(run: Run) -> None:
    code, secret, said = run("new-key", "lab")

    assert code == 0
    line = said.rpartition(": ")[2]
    assert Keys(parse_keys(line, "here")).find(secret.strip().encode()) is not None
    assert secret != run("new-key", "lab")[1]


def test_a_name_that_is_taken_or_none_is_refused(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    assert run("new-key", "lab", "--keys", path)[0] == 0
    before = path.read_text()

    assert run("new-key", "lab", "--keys", path)[0] == 2
    code, printed, said = run("new-key", "the lab", "--keys", path)

    assert (code, printed) == (2, "")
    assert "'the lab'" in said
    assert path.read_text() == before
