"""References in memory: loaded when asked for, kept while in use, let go of within a budget."""

from __future__ import annotations

import asyncio
import gc
import shutil
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.server import wait_for
from tests.support.toy_bundle import toy_cells, write_toy_bundle

from totalanvi.serving.endpoint import references as module
from totalanvi.serving.endpoint.catalogue import Catalogue
from totalanvi.serving.endpoint.references import MEMORY_PER_BYTE, Lease, References
from totalanvi.serving.errors import BundleError, NotReadyError, ServingError, UnknownReferenceError
from totalanvi.serving.mapped import MapOptions
from totalanvi.serving.mapping.local import LocalReference


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles `a` 1, `a` 2 and `b` 1. Not to be changed: copy them."""
    folder = tmp_path_factory.mktemp("references")
    for name, version in (("a", "1"), ("a", "2"), ("b", "1")):
        write_toy_bundle(folder / f"{name}{version}", name=name, version=version)
    return folder


@pytest.fixture
def shelf(written: Path, tmp_path: Path) -> Path:
    """A folder of bundles with `a` 1."""
    shutil.copytree(written / "a1", tmp_path / "shelf" / "a1")
    return tmp_path / "shelf"


def opened(references: References) -> References:
    references.look()
    return references


def lease(references: References, name: str | None) -> Lease:
    return asyncio.run(references.lease(references.find(name)))


def loaded(references: References) -> set[str]:
    return {offer.full_name for offer in references.loaded}


def room_for(n: int, references: References) -> int:
    """Bytes that so many references take."""
    return n * MEMORY_PER_BYTE * max(offer.n_bytes for offer in references.catalogue.offers)


def test_only_the_default_is_loaded_before_others_are_asked_for(written: Path) -> None:
    references = opened(References(Catalogue([written / "a1", written / "b1"])))

    assert references.ready
    assert loaded(references) == {"a@1"}
    assert references.provider(references.find("b")) is None
    lease(references, "b").release()
    assert loaded(references) == {"a@1", "b@1"}
    assert references.provider(references.find("b")) == "cpu"


def test_many_that_ask_at_once_wait_for_one_loading(written: Path) -> None:
    opens: list[Path] = []

    def count(path: Path) -> LocalReference:
        opens.append(path)
        return LocalReference(path)

    references = opened(References(Catalogue([written / "a1", written / "b1"]), count))

    async def crowd() -> list[Lease]:
        return await asyncio.gather(*(references.lease(references.find("b")) for _ in range(8)))

    leases = asyncio.run(crowd())
    assert len({id(one.reference) for one in leases}) == 1
    assert [path.name for path in opens] == ["a1", "b1"]


def test_the_longest_unused_gives_way_and_its_memory_is_free(written: Path) -> None:
    catalogue = Catalogue([written / "a1", written / "a2", written / "b1"])
    catalogue.look()
    references = opened(References(catalogue, memory_bytes=room_for(2, References(catalogue))))
    lease(references, "a@2").release()
    held = lease(references, "a@1")
    gone = weakref.ref(held.reference)
    held.release()
    del held
    lease(references, "a@2").release()

    lease(references, "b").release()

    assert loaded(references) == {"a@2", "b@1"}
    gc.collect()
    assert gone() is None


def test_what_is_in_use_is_never_let_go_of(written: Path) -> None:
    catalogue = Catalogue([written / "a1", written / "b1"])
    catalogue.look()
    references = opened(References(catalogue, memory_bytes=room_for(1, References(catalogue))))
    held = lease(references, "a")

    with pytest.raises(NotReadyError, match="taken by others that are at work"):
        lease(references, "b")
    held.release()
    lease(references, "b").release()
    assert loaded(references) == {"b@1"}


def test_a_reference_larger_than_the_memory_is_told(written: Path) -> None:
    references = opened(References(Catalogue([written / "a1"]), memory_bytes=1000))

    assert not references.ready
    with pytest.raises(BundleError, match="raise TOTALANVI_MEMORY_BYTES"):
        references.find(None)


def test_a_lease_outlives_the_bundle(shelf: Path, written: Path) -> None:
    references = opened(References(Catalogue(folder=shelf)))
    held = lease(references, None)
    cells, _ = toy_cells(5)
    before = held.reference.score(cells, MapOptions())
    shutil.copytree(written / "a2", shelf / "a2")
    shutil.rmtree(shelf / "a1")
    references.look()

    assert references.find("a").full_name == "a@2"
    after = held.reference.score(cells, MapOptions())
    assert (before.probabilities == after.probabilities).all()


def test_a_withdrawn_version_answers_to_its_full_name_until_it_was_not_used_for_a_while(
    shelf: Path, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    references = opened(References(Catalogue(folder=shelf)))
    shutil.copytree(written / "a2", shelf / "a2")
    shutil.rmtree(shelf / "a1")
    references.look()
    assert references.find("a@1").full_name == "a@1"

    held = lease(references, "a@1")
    monkeypatch.setattr(module, "_KEEP_SECONDS", -1.0)
    references.look()
    assert references.find("a@1") is held.offer
    held.release()
    references.look()
    with pytest.raises(UnknownReferenceError):
        references.find("a@1")


def test_a_new_version_of_what_is_in_use_is_loaded_before_it_is_offered(shelf: Path, written: Path) -> None:
    seen: list[str] = []
    references = References(Catalogue(folder=shelf), lambda path: seen.append(newest()) or LocalReference(path))

    def newest() -> str:
        return references.catalogue.offers[0].full_name if references.catalogue.offers else "none"

    references.look()
    shutil.copytree(written / "a2", shelf / "a2")
    shutil.copytree(written / "b1", shelf / "b1")
    references.look()

    assert seen == ["a@1", "a@1"]
    assert loaded(references) == {"a@1", "a@2"}


def test_a_bundle_replaced_since_it_was_verified_is_not_loaded(tmp_path: Path, written: Path) -> None:
    shutil.copytree(written / "a1", tmp_path / "b")
    references = opened(References(Catalogue([written / "b1", tmp_path / "b"])))
    offer = references.find("a")
    shutil.rmtree(tmp_path / "b")
    shutil.copytree(written / "a2", tmp_path / "b")

    with pytest.raises(BundleError, match="expected the bundle that was verified, found another"):
        asyncio.run(references.lease(offer))


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[References]:
    """An empty folder of bundles, looked at all the time."""
    (tmp_path / "empty").mkdir()
    references = References(Catalogue(folder=tmp_path / "empty"), poll_seconds=0.05)
    references.start()
    yield references
    references.close()


def test_an_empty_folder_is_not_ready_until_a_bundle_is_put_there(watching: References, written: Path) -> None:
    assert watching.catalogue.folder is not None
    pause = threading.Event()
    pause.wait(0.2)
    assert not watching.ready
    with pytest.raises(NotReadyError):
        watching.find(None)

    shutil.copytree(written / "a1", watching.catalogue.folder / "a1")

    wait_for(lambda: watching.ready)
    assert watching.find(None).full_name == "a@1"
    shutil.rmtree(watching.catalogue.folder / "a1")
    wait_for(lambda: not watching.ready)


def test_without_a_default_it_is_ready_and_a_request_has_to_name_one(shelf: Path, written: Path) -> None:
    shutil.copytree(written / "b1", shelf / "b1")
    references = opened(References(Catalogue(folder=shelf)))

    assert references.ready
    assert references.default() is None
    with pytest.raises(UnknownReferenceError, match="add \\?reference=NAME"):
        references.find(None)


def test_a_default_that_is_not_there_yet_keeps_it_from_being_ready(shelf: Path, written: Path) -> None:
    references = opened(References(Catalogue(folder=shelf, default="b")))
    assert not references.ready

    shutil.copytree(written / "b1", shelf / "b1")
    references.look()
    assert references.ready
    assert loaded(references) == {"b@1"}


def test_what_cannot_be_served_is_told_as_it_is(tmp_path: Path) -> None:
    references = opened(References(Catalogue([tmp_path / "none"])))

    with pytest.raises(ServingError, match="none"):
        references.find(None)
