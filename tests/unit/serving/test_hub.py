"""`totalanvi push` and `totalanvi pull`, against a hub that answers on this machine."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.support.command_line import Run, exit_code
from tests.support.files import contents, listing
from tests.support.hub import Hub, running_hub
from tests.support.terminal import at_a_terminal
from tests.support.toy_bundle import write_toy_bundle

from totalanvi.machine.still_going import still_going
from totalanvi.serving import commands_hub
from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.files import hash_files
from totalanvi.serving.bundles.manifest import CARD_FILE, MANIFEST_FILE
from totalanvi.serving.bundles.manifest_file import write_manifest
from totalanvi.serving.bundles.signature import sign_bundle

REPOSITORY = "lab/toy"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub that this process takes for the only one, and whose token it has."""
    from huggingface_hub import constants

    with running_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        # The hub's other way of uploads needs its own servers.
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setenv("HF_TOKEN", hub.token)
        yield hub


@pytest.fixture
def pushed(hub: Hub, run: Run, toy_folder: Path) -> Hub:
    """The hub with the toy bundle."""
    assert run("push", toy_folder, REPOSITORY)[0] == 0
    hub.asked.clear()
    return hub


def with_card(bundle: Path, licence: str = "cc-by-4.0") -> Path:
    """Give a bundle a model card, as export does."""
    (bundle / CARD_FILE).write_text(f"---\nlicense: {licence}\n---\n")
    manifest = Bundle.open(bundle).manifest
    files = manifest.files | hash_files(bundle, [CARD_FILE])
    write_manifest(bundle, manifest.model_copy(update={"files": files}))
    return bundle


def test_a_hub_that_takes_long_is_waited_for_aloud(
    hub: Hub, run: Run, toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands_hub, "still_going", partial(still_going, every=0.001))
    told = run("push", toy_folder, REPOSITORY)[2]
    assert re.fullmatch(r"(Pushing to lab/toy: \d+ s so far\n)+", told)
    told = run("pull", REPOSITORY, "-o", tmp_path / "pulled")[2]
    assert re.fullmatch(r"(Pulling lab/toy: \d+ s so far\n)+", told)
    with at_a_terminal(monkeypatch) as shown:
        assert exit_code("pull", REPOSITORY, "-o", tmp_path / "again") == 0
    assert "so far" not in shown.text


def test_what_is_pushed_is_what_is_pulled(hub: Hub, run: Run, tmp_path: Path) -> None:
    bundle = with_card(write_toy_bundle(tmp_path / "bundle"))
    sign_bundle(bundle, Ed25519PrivateKey.generate())
    kept = contents(bundle)
    (bundle / "notes.txt").write_text("not the bundle's")
    code, printed, said = run("push", bundle, REPOSITORY)
    assert (code, said) == (0, "")
    repository = hub.repositories[REPOSITORY]
    assert f"{hub.url}/{REPOSITORY}/commit/{repository.newest}" in printed
    assert len(repository.commits) == 1
    assert repository.private
    assert repository.commits[repository.newest] == kept
    assert len(hub.storage) > 0
    code, printed, said = run("pull", REPOSITORY, "-o", tmp_path / "pulled")
    assert (code, said) == (0, "")
    assert contents(tmp_path / "pulled") == kept
    assert Bundle.open(bundle).digest in printed
    assert run("pull", REPOSITORY, "-o", tmp_path / "pulled", "--overwrite")[0] == 0
    assert listing(tmp_path) == ["bundle", "pulled"]


def test_a_public_repository_needs_no_token(
    hub: Hub, run: Run, toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("push", toy_folder, REPOSITORY, "--public")[0] == 0
    monkeypatch.delenv("HF_TOKEN")
    assert run("pull", REPOSITORY, "-o", tmp_path / "pulled")[0] == 0
    assert contents(tmp_path / "pulled") == contents(toy_folder)


def test_only_what_the_manifest_lists_is_fetched(pushed: Hub, run: Run, toy_folder: Path, tmp_path: Path) -> None:
    pushed.repositories[REPOSITORY].commit({"weights.pkl": b"cos\nsystem", ".gitattributes": b"*.onnx filter=lfs"})
    assert run("pull", REPOSITORY, "-o", tmp_path / "pulled")[0] == 0
    assert listing(tmp_path / "pulled") == listing(toy_folder)
    assert not [path for _, path, _ in pushed.asked if path.endswith((".pkl", ".gitattributes"))]


def test_a_revision_is_pulled_as_it_was(pushed: Hub, run: Run, toy_folder: Path, tmp_path: Path) -> None:
    first = pushed.repositories[REPOSITORY].newest
    other = write_toy_bundle(tmp_path / "other", version="2")
    assert run("push", other, REPOSITORY)[0] == 0
    assert run("pull", REPOSITORY, "-o", tmp_path / "old", "--revision", first)[0] == 0
    assert contents(tmp_path / "old") == contents(toy_folder)
    assert run("pull", REPOSITORY, "-o", tmp_path / "old", "--overwrite")[0] == 0
    assert Bundle.open(tmp_path / "old").manifest.version == "2"
    code, _, said = run("pull", REPOSITORY, "-o", tmp_path / "none", "--revision", "f" * 40)
    assert code == 2
    assert "expected that revision, found none" in said


@pytest.mark.parametrize("file", ["encoder.onnx", "reference.safetensors", MANIFEST_FILE])
def test_what_was_altered_on_the_way_is_not_kept(pushed: Hub, run: Run, tmp_path: Path, file: str) -> None:
    before = write_toy_bundle(tmp_path / "there", version="0")
    kept = contents(before)
    pushed.altered.add(file)
    for arguments in (["-o", tmp_path / "new"], ["-o", before, "--overwrite"]):
        code, _, said = run("pull", REPOSITORY, *arguments)
        assert code == 2
        assert said.startswith("Error: ")
        assert "expected" in said
    assert contents(before) == kept
    assert listing(tmp_path) == ["there"]


def test_a_missing_file_is_named(pushed: Hub, run: Run, tmp_path: Path) -> None:
    repository = pushed.repositories[REPOSITORY]
    del repository.commits[repository.newest]["proteins.onnx"]
    code, _, said = run("pull", REPOSITORY, "-o", tmp_path / "pulled")
    assert code == 2
    assert "expected a bundle, found that a file of it is missing" in said
    assert "proteins.onnx" in said
    assert listing(tmp_path) == []


def test_a_card_that_the_hub_does_not_take(hub: Hub, run: Run, tmp_path: Path) -> None:
    code, _, said = run("push", with_card(write_toy_bundle(tmp_path / "toy"), "none"), REPOSITORY)
    assert code == 2
    assert "expected a licence" in said
    assert hub.repositories[REPOSITORY].commits == {}


def test_a_bundle_that_is_not_whole_is_not_pushed(hub: Hub, run: Run, tmp_path: Path) -> None:
    bundle = write_toy_bundle(tmp_path / "toy")
    (bundle / "encoder.onnx").write_bytes(b"")
    code, _, said = run("push", bundle, REPOSITORY)
    assert code == 2
    assert "'encoder.onnx' has been altered" in said
    assert hub.asked == []


@pytest.mark.parametrize("name", ["lab/none", "no name", "a/b/c"])
def test_a_repository_that_is_none(pushed: Hub, run: Run, tmp_path: Path, name: str) -> None:
    code, _, said = run("pull", name, "-o", tmp_path / "pulled")
    assert code == 2
    assert said.startswith(f"Error: {name}: expected")
    assert ", found" in said
    assert said.count("\n") == 1
    assert listing(tmp_path) == []


def test_without_a_token_one_is_asked_for(
    pushed: Hub, run: Run, toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    for arguments in (["pull", REPOSITORY, "-o", tmp_path / "pulled"], ["push", toy_folder, "lab/other"]):
        code, _, said = run(*arguments)
        assert code == 2
        assert "hf auth login" in said
    assert list(pushed.repositories) == [REPOSITORY]


@pytest.mark.parametrize("broken", ["create", "preupload", "batch", "commit", "GET /api/models", "resolve", "validate"])
def test_a_token_goes_to_the_hub_and_nowhere_else(
    pushed: Hub,
    run: Run,
    tmp_path: Path,
    broken: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from huggingface_hub.utils import _http

    monkeypatch.setattr(_http.time, "sleep", lambda seconds: None)
    caplog.set_level("INFO")
    other = with_card(write_toy_bundle(tmp_path / "other", version="2"))
    pushed.broken = broken
    sides = [run("push", other, REPOSITORY), run("pull", REPOSITORY, "-o", tmp_path / "pulled")]
    assert sorted(code for code, _, _ in sides) == [0, 2]
    (failed,) = [said for code, _, said in sides if code == 2]
    assert failed.startswith(f"Error: {REPOSITORY}: expected")
    for _, printed, said in sides:
        assert pushed.token not in printed + said
    assert pushed.token not in caplog.text
    sent = {token for method, _, token in pushed.asked if method != "PUT"}
    assert sent == {pushed.token}
    assert any(broken in f"{method} {path}" for method, path, _ in pushed.asked)
    assert {token for method, _, token in pushed.asked if method == "PUT"} <= {""}
    assert not any(pushed.token.encode() in content for content in contents(tmp_path / "other").values())


def test_a_hub_that_is_away(hub: Hub, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        code, _, said = run("pull", REPOSITORY, "-o", tmp_path / "pulled")
    assert code == 2
    assert "expected to reach the hub, found that it cannot be reached" in said
    assert listing(tmp_path) == []


def test_places_are_judged_before_the_hub_is_asked(pushed: Hub, run: Run, toy_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    other = shutil.copytree(toy_folder, tmp_path / "other")
    (other / "mine.txt").write_text("mine")
    shutil.copytree(toy_folder, tmp_path / "there")
    for name, found, arguments in (
        ("file", "found a file;", ["--overwrite"]),
        ("other", "found 'mine.txt' in it", ["--overwrite"]),
        ("there", "found one; choose another, or allow to replace it", []),
        ("no/where", "Expected a folder for the bundle; found none", []),
    ):
        code, _, said = run("pull", REPOSITORY, "-o", tmp_path / name, *arguments)
        assert code == 2
        assert found in said
    assert pushed.asked == []
    assert listing(tmp_path) == ["file", "other", "there"]
