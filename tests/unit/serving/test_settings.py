"""Settings from a file and from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from totalanvi.serving.endpoint.settings import Settings, setting_names
from totalanvi.serving.errors import BundleError, SettingsError
from totalanvi.serving.wire.limits import Limits


def test_defaults_hold_where_nothing_is_set() -> None:
    assert Settings.read({}) == Settings()


def test_every_limit_is_set_by_its_variable() -> None:
    environment = {f"TOTALANVI_{name.upper()}": "2000" for name in Limits.model_fields}

    assert set(Settings.read(environment).limits.model_dump().values()) == {2000}


def test_every_setting_is_read_from_a_file_too(tmp_path: Path) -> None:
    file = tmp_path / "endpoint.toml"
    lines = dict.fromkeys(setting_names(), "2000")
    lines |= {"reference": '["one", "two"]', "references": '"bundles"', "default_reference": '"two@1"'}
    file.write_text("".join(f"{name} = {value}\n" for name, value in lines.items()))

    found = Settings.read({"TOTALANVI_CONFIG": str(file)})

    assert (found.reference, found.default_reference) == (("one", "two"), "two@1")
    assert found.references == tmp_path / "bundles"
    assert (found.memory_bytes, found.poll_seconds, found.drain_seconds) == (2000, 2000, 2000)
    assert set(found.limits.model_dump().values()) == {2000}


def test_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "endpoint.toml"
    file.write_text("max_cells = 5\nmax_queue = 6\n")

    limits = Settings.read({"TOTALANVI_CONFIG": str(file), "TOTALANVI_MAX_CELLS": "7"}).limits

    assert (limits.max_cells, limits.max_queue) == (7, 6)


def test_other_variables_are_nobodys_business() -> None:
    assert Settings.read({"TOTALANVI_OTHER": "bundle", "MAX_CELLS": "1"}) == Settings()


@pytest.mark.parametrize(
    ("text", "names"),
    [("one", ("one",)), ("one, two:3 ,", ("one", "two:3")), ("a, b\n", ("a, b",)), ("a\nb\n", ("a", "b")), ("", ())],
)
def test_several_references_in_one_variable(text: str, names: tuple[str, ...]) -> None:
    assert Settings.read({"TOTALANVI_REFERENCE": text}).reference == names


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOTALANVI_MAX_CELLS", "many"),
        ("TOTALANVI_MAX_CELLS", "0"),
        ("TOTALANVI_MAX_CONCURRENCY", "-1"),
        ("TOTALANVI_REQUEST_SECONDS", ""),
        ("TOTALANVI_REQUEST_SECONDS", "nan"),
        ("TOTALANVI_MAX_BODY_BYTES", "64MB"),
        ("TOTALANVI_POLL_SECONDS", "0"),
        ("TOTALANVI_MEMORY_BYTES", "4 GB"),
    ],
)
def test_an_unusable_value_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name) as caught:
        Settings.read({name: value})

    assert repr(value) in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"max_cels = 5", "found \\['max_cels'\\]; leave these out"),
        (b"max_cells = 'many'", "endpoint.toml: max_cells: expected a value in range, found 'many'"),
        (b"[limits]\nmax_cells = 5", "found \\['limits'\\]"),
        (b"max_cells: 5", "expected TOML, found something else"),
        (b"\xff", "expected TOML, found something else"),
        (b"reference = 5", "endpoint.toml: reference: expected"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, text: bytes, said: str) -> None:
    file = tmp_path / "endpoint.toml"
    file.write_bytes(text)

    with pytest.raises(SettingsError, match=said):
        Settings.read({"TOTALANVI_CONFIG": str(file)})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="expected a TOML file with settings, found none"):
        Settings.read({"TOTALANVI_CONFIG": str(tmp_path / "none.toml")})


def test_references_have_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"found none; name it \(totalanvi serve BUNDLE\), or a folder"):
        Settings().make_references().catalogue.look()
    with pytest.raises(SettingsError, match="expected a folder of bundles, found none"):
        Settings(references=tmp_path / "none").make_references().catalogue.look()
    with pytest.raises(BundleError, match="none here"):
        Settings(reference=("none here",)).make_references().catalogue.look()
