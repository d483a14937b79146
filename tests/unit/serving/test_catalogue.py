"""Which references there are: named, in a folder, by version, and what is not offered."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
from tests.support.toy_bundle import write_toy_bundle

from totalanvi.serving.endpoint.catalogue import Catalogue, Offer, _version_key
from totalanvi.serving.errors import BundleError, NotReadyError, SettingsError, UnknownReferenceError


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles `a` 1, `a` 2, `a` 10 and `b` 1. Not to be changed: copy them."""
    folder = tmp_path_factory.mktemp("catalogue")
    for name, version in (("a", "1"), ("a", "2"), ("a", "10"), ("b", "1")):
        write_toy_bundle(folder / f"{name}{version}", name=name, version=version)
    return folder


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """An empty folder of bundles."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    return folder


def put(written: Path, shelf: Path, *names: str) -> None:
    for name in names:
        shutil.copytree(written / name, shelf / name)


def names_of(catalogue: Catalogue) -> list[str]:
    catalogue.look()
    return [offer.full_name for offer in catalogue.offers]


def test_a_name_means_the_newest_version_and_numbers_are_numbers(written: Path, shelf: Path) -> None:
    put(written, shelf, "a1", "a2", "a10", "b1")
    catalogue = Catalogue(folder=shelf)

    assert names_of(catalogue) == ["a@10", "a@2", "a@1", "b@1"]
    assert [catalogue.find(name).full_name for name in ("a", "a@2", "b")] == ["a@10", "a@2", "b@1"]


@pytest.mark.parametrize(
    ("older", "newer"), [("2", "10"), ("1.9", "1.10"), ("2025-12-31", "2026-01-01"), ("v1", "v2"), ("1", "1.1")]
)
def test_versions_are_ordered_as_people_count(older: str, newer: str) -> None:
    assert _version_key(older) < _version_key(newer)


def test_the_default_is_the_first_that_was_named_or_the_one_that_is_set(written: Path, shelf: Path) -> None:
    put(written, shelf, "a2")
    first = Catalogue([written / "b1", written / "a1"], shelf)
    chosen = Catalogue([written / "b1"], shelf, default="a")
    for catalogue in (first, chosen):
        catalogue.look()

    assert (first.find(None).full_name, chosen.find(None).full_name) == ("b@1", "a@2")


def test_in_a_folder_the_only_name_is_the_default(written: Path, shelf: Path) -> None:
    put(written, shelf, "a1", "a2")
    catalogue = Catalogue(folder=shelf)
    catalogue.look()
    assert catalogue.find(None).full_name == "a@2"

    put(written, shelf, "b1")
    catalogue.look()
    with pytest.raises(UnknownReferenceError, match="expected one of 'a@2', 'a@1', 'b@1', found none named"):
        catalogue.find(None)


def test_an_unknown_name_is_told_what_there_is(written: Path) -> None:
    catalogue = Catalogue([written / "a1", written / "b1"])
    catalogue.look()

    for name in ("c", "a@3", "a@", "", "@1"):
        with pytest.raises(UnknownReferenceError, match="expected one of 'a@1', 'b@1', found") as caught:
            catalogue.find(name)
        assert repr(name) in str(caught.value)
    assert caught.value.http_status == 404


def test_bundles_come_and_go(written: Path, shelf: Path, caplog: pytest.LogCaptureFixture) -> None:
    catalogue = Catalogue(folder=shelf)
    assert names_of(catalogue) == []
    with pytest.raises(NotReadyError):
        catalogue.find("a")
    with caplog.at_level(logging.INFO):
        put(written, shelf, "a1")
        assert names_of(catalogue) == ["a@1"]
        put(written, shelf, "a2")
        assert names_of(catalogue) == ["a@2", "a@1"]
        shutil.rmtree(shelf / "a2")
        assert names_of(catalogue) == ["a@1"]
    assert "Offering a@2" in caplog.text
    assert "No longer offering a@2" in caplog.text


def test_what_did_not_change_is_not_read_again(written: Path, shelf: Path) -> None:
    put(written, shelf, "a1")
    catalogue = Catalogue(folder=shelf)
    catalogue.look()
    (first,) = catalogue.offers
    catalogue.look()

    assert catalogue.offers == (first,)


def test_a_bundle_is_offered_only_once_it_is_whole(written: Path, shelf: Path) -> None:
    put(written, shelf, "a1")
    last = (shelf / "a1" / "encoder.onnx").read_bytes()
    (shelf / "a1" / "encoder.onnx").unlink()
    catalogue = Catalogue(folder=shelf)

    assert names_of(catalogue) == []
    assert catalogue.refused == ["a1"]
    (shelf / "a1" / "encoder.onnx").write_bytes(last)
    assert names_of(catalogue) == ["a@1"]
    assert catalogue.refused == []


def test_an_altered_bundle_is_no_longer_offered_and_the_log_says_why(
    written: Path, shelf: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(written, shelf, "a1", "a2")
    catalogue = Catalogue(folder=shelf)
    catalogue.look()
    with (shelf / "a2" / "encoder.onnx").open("ab") as stream:
        stream.write(b"more")

    assert names_of(catalogue) == ["a@1"]
    assert "a2 is not offered" in caplog.text
    assert "has been altered" in caplog.text


def test_hidden_folders_files_and_others_are_left_alone(written: Path, shelf: Path) -> None:
    put(written, shelf, "a1")
    shutil.copytree(written / "a2", shelf / ".a2.part")
    (shelf / "notes").mkdir()
    (shelf / "notes.txt").write_text("ours")
    catalogue = Catalogue(folder=shelf)

    assert names_of(catalogue) == ["a@1"]
    assert catalogue.refused == []


def test_what_a_link_leads_to_is_what_counts(written: Path, shelf: Path) -> None:
    link = shelf / "current"
    link.symlink_to(written / "a1")
    catalogue = Catalogue(folder=shelf)
    assert names_of(catalogue) == ["a@1"]

    other = shelf / ".next"
    other.symlink_to(written / "a2")
    other.rename(link)

    assert names_of(catalogue) == ["a@2"]


def test_of_two_that_call_themselves_the_same_the_younger_is_offered(written: Path, shelf: Path) -> None:
    put(written, shelf, "a1")
    younger = write_toy_bundle(shelf / "again", name="a", version="1", created="2026-02-01T00:00:00Z")
    catalogue = Catalogue(folder=shelf)

    assert names_of(catalogue) == ["a@1"]
    assert catalogue.find("a").folder == younger.resolve()


def test_a_folder_that_cannot_be_looked_at_changes_nothing(written: Path, shelf: Path) -> None:
    put(written, shelf, "a1")
    catalogue = Catalogue(folder=shelf)
    catalogue.look()
    shelf.rename(shelf.with_name("elsewhere"))

    with pytest.raises(SettingsError, match="expected a folder of bundles, found none"):
        catalogue.look()
    assert [offer.full_name for offer in catalogue.offers] == ["a@1"]


def test_a_bundle_that_was_named_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        Catalogue([tmp_path / "none"]).look()


def test_what_is_new_is_prepared_before_anyone_is_told(written: Path, shelf: Path) -> None:
    put(written, shelf, "a1")
    catalogue = Catalogue(folder=shelf)
    seen: list[tuple[str, int]] = []

    def prepare(offer: Offer) -> None:
        seen.append((offer.full_name, len(catalogue.offers)))

    catalogue.look(prepare)
    put(written, shelf, "a2")
    catalogue.look(prepare)
    catalogue.look(prepare)

    assert seen == [("a@1", 0), ("a@2", 1)]
