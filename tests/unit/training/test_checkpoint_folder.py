"""Folders of checkpoints: what is ours is replaced whole, what is not stays, whatever happens in between."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import mudata as md
import pytest
from tests.support.files import contents, listing

from totalanvi.training import TOTALANVI, TOTALVI, ArgumentError, CheckpointError
from totalanvi.training.checkpoints.checkpoint import read_checkpoint
from totalanvi.training.checkpoints.folder import prepared_folder, require_writable

FILES = ["cells.safetensors", "config.json", "model.safetensors", "registry.json", "report.html"]


# New folders


def test_an_empty_folder_may_be_used(trained_totalvi: TOTALVI, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    trained_totalvi.save(tmp_path / "empty", overwrite=True)
    assert read_checkpoint(tmp_path / "empty").kind == "TOTALVI"


def test_folders_above_are_made(trained_totalvi: TOTALVI, tmp_path: Path) -> None:
    trained_totalvi.save(tmp_path / "a" / "b")
    assert read_checkpoint(tmp_path / "a" / "b").kind == "TOTALVI"


def test_a_file_is_no_folder(trained_totalvi: TOTALVI, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckpointError, match=r"expected a folder, found a file, which would be lost; choose another"):
        trained_totalvi.save(tmp_path / "file", overwrite=True)
    with pytest.raises(
        CheckpointError, match=r"Expected a folder in which to make .*, which is a file; choose another"
    ):
        trained_totalvi.save(tmp_path / "file" / "checkpoint")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("name", ["x" * 300, "é" * 125, f"{'x' * 300}/checkpoint"])
def test_a_name_that_is_too_long_is_refused_before_training(name: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"found a name of more than 245 bytes; choose another folder"):
        require_writable(tmp_path / name, overwrite=False)


def test_what_fails_leaves_nothing_behind(reference_mdata: md.MuData, tmp_path: Path) -> None:
    model = TOTALVI(reference_mdata, n_hidden=8, empirical_protein_background_prior=False)
    model._training = {"options": object()}
    with pytest.raises(TypeError, match="not JSON serializable"):
        model.save(tmp_path / "checkpoint")
    assert not list(tmp_path.iterdir())


# Replacing a checkpoint


def test_nothing_is_overwritten_unasked(trained: TOTALANVI, copied: Path) -> None:
    before = contents(copied)
    with pytest.raises(
        CheckpointError, match=r"does not exist yet, found .*; choose another, or overwrite it \(overwrite=True;"
    ):
        trained.save(copied)
    assert contents(copied) == before


def test_a_checkpoint_may_be_replaced(trained_totalvi: TOTALVI, copied: Path) -> None:
    trained_totalvi.save(copied, overwrite=True)
    assert read_checkpoint(copied).kind == "TOTALVI"
    assert listing(copied) == FILES
    assert listing(copied.parent) == ["copy"]


def test_a_checkpoint_of_version_1_may_be_replaced(trained_totalvi: TOTALVI, tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).parents[2] / "data" / "checkpoint_version_1", tmp_path / "old")
    trained_totalvi.save(tmp_path / "old", overwrite=True)
    assert read_checkpoint(tmp_path / "old").kind == "TOTALVI"
    assert listing(tmp_path / "old") == FILES


def test_a_file_that_the_new_checkpoint_lacks_goes(reference_mdata: md.MuData, copied: Path) -> None:
    fresh = TOTALVI(reference_mdata, n_hidden=8, empirical_protein_background_prior=False)
    (copied / "notes.txt").write_text("mine")
    fresh.save(copied, overwrite=True)
    assert listing(copied) == ["config.json", "model.safetensors", "notes.txt", "registry.json"]
    assert read_checkpoint(copied).sample is None


# Among files of others


def test_files_of_others_stay(trained_totalvi: TOTALVI, copied: Path) -> None:
    (copied / "thesis.docx").write_text("years")
    (copied / "plots").mkdir()
    (copied / "plots" / "umap.png").write_text("pixels")
    trained_totalvi.save(copied, overwrite=True)
    assert listing(copied) == sorted([*FILES, "plots", "thesis.docx"])
    assert (copied / "thesis.docx").read_text() == "years"
    assert (copied / "plots" / "umap.png").read_text() == "pixels"
    assert TOTALVI.load(copied).is_trained
    assert listing(copied.parent) == ["copy"]


def test_a_folder_of_others_may_be_used(trained_totalvi: TOTALVI, tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_text("years")
    trained_totalvi.save(tmp_path, overwrite=True)
    assert TOTALVI.load(tmp_path).is_trained
    assert listing(tmp_path) == sorted([*FILES, "thesis.docx"])


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"config.json": '{"hidden_size": 768}'}, r"config\.json"),
        ({"config.json": "[]"}, r"config\.json"),
        ({"config.json": "{"}, r"config\.json"),
        ({"model.safetensors": "weights"}, r"model\.safetensors"),
        ({"config.json": "{}", "registry.json": "{}", "notes.txt": ""}, r"config\.json, registry\.json"),
        # It lists none of the files: they came from elsewhere.
        ({"config.json": '{"format": "totalanvi checkpoint", "files": {}}', "model.safetensors": ""}, "model"),
        ({"config.json": '{"format": "totalanvi checkpoint", "files": 3}', "model.safetensors": ""}, "model"),
    ],
)
def test_a_foreign_file_of_our_name_is_never_replaced(
    trained_totalvi: TOTALVI, tmp_path: Path, files: dict[str, str], named: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(
        CheckpointError, match=rf"expected files of a checkpoint to replace, found {named}.* of something else"
    ):
        trained_totalvi.save(tmp_path, overwrite=True)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == files


def test_a_config_lays_no_claim_to_files_that_we_do_not_write(trained_totalvi: TOTALVI, copied: Path) -> None:
    (copied / "thesis.docx").write_text("years")
    (copied.parent / "outside.txt").write_text("mine")
    config = json.loads((copied / "config.json").read_text())
    config["files"] |= {"thesis.docx": "", "../outside.txt": ""}
    (copied / "config.json").write_text(json.dumps(config | {"data": "thesis.docx"}))
    trained_totalvi.save(copied, overwrite=True)
    assert (copied / "thesis.docx").read_text() == "years"
    assert (copied.parent / "outside.txt").read_text() == "mine"


# Special folders


def test_the_folder_one_stands_in(trained_totalvi: TOTALVI, copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copied)
    trained_totalvi.save(".", overwrite=True)
    assert listing(Path()) == FILES
    assert read_checkpoint(copied).kind == "TOTALVI"


def test_a_link_to_a_folder_stays_one(trained_totalvi: TOTALVI, copied: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(copied, target_is_directory=True)
    trained_totalvi.save(tmp_path / "link", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert read_checkpoint(copied).kind == "TOTALVI"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(trained_totalvi: TOTALVI, copied: Path) -> None:
    copied.chmod(0o500)
    try:
        with pytest.raises(CheckpointError, match=r"may be written, found that .* may not; choose another"):
            trained_totalvi.save(copied, overwrite=True)
    finally:
        copied.chmod(0o700)


# Prefixes


def test_models_share_a_folder_by_prefix(trained: TOTALANVI, trained_totalvi: TOTALVI, tmp_path: Path) -> None:
    kept = {"anvi_": [*FILES, "readout.safetensors"], "vi_": FILES}
    trained.save(tmp_path / "both", prefix="anvi_")
    trained_totalvi.save(tmp_path / "both", prefix="vi_", overwrite=True)
    assert listing(tmp_path / "both") == sorted(f"{prefix}{name}" for prefix, files in kept.items() for name in files)
    before = contents(tmp_path / "both")
    trained_totalvi.save(tmp_path / "both", prefix="vi_", overwrite=True)
    assert contents(tmp_path / "both") == before
    assert TOTALANVI.load(tmp_path / "both", prefix="anvi_").registry == trained.registry
    assert TOTALVI.load(tmp_path / "both", prefix="vi_").registry == trained_totalvi.registry
    with pytest.raises(CheckpointError, match=r"found a folder without config\.json"):
        TOTALVI.load(tmp_path / "both")


def test_a_prefix_does_not_lead_elsewhere(trained_totalvi: TOTALVI, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"expected the beginning of a file name, found '\.\./x'; leave"):
        trained_totalvi.save(tmp_path / "made", prefix="../x")
    with pytest.raises(ArgumentError, match="prefix: expected"):
        TOTALVI.load(tmp_path, prefix="a/b")
    assert not list(tmp_path.iterdir())


# What fails half-way


@pytest.mark.parametrize("with_others", [False, True])
@pytest.mark.parametrize("nth", range(10))
def test_a_rename_that_fails_leaves_all_as_it_was(
    copied: Path, monkeypatch: pytest.MonkeyPatch, with_others: bool, nth: int
) -> None:
    """The nth rename is refused, as by a disk that is taken out."""
    if with_others:
        (copied / "thesis.docx").write_text("years")
    before = contents(copied.parent)
    monkeypatch.setattr(os, "rename", refusing(os.rename, calls := [0], nth))
    monkeypatch.setattr(os, "replace", refusing(os.replace, calls, nth))
    failed = False
    try:
        with prepared_folder(copied) as made:
            for name in ("config.json", "model.safetensors", "registry.json"):  # no cells: the old ones have to go
                (made / name).write_text("new")
    except OSError:
        failed = True
    assert failed == (nth < (8 if with_others else 2))
    if failed:
        assert contents(copied.parent) == before
    else:
        assert contents(copied) == dict.fromkeys(("config.json", "model.safetensors", "registry.json"), b"new") | (
            {"thesis.docx": b"years"} if with_others else {}
        )
    assert listing(copied.parent) == ["copy"]


def refusing(rename: Callable[..., None], calls: list[int], nth: int) -> Callable[..., None]:
    def counted(*arguments: object, **options: object) -> None:
        calls[0] += 1
        if calls[0] == nth + 1:
            raise OSError("refused")
        rename(*arguments, **options)

    return counted


def test_what_turns_up_meanwhile_stays(copied: Path) -> None:
    with prepared_folder(copied) as made:
        (made / "config.json").write_text("new")
        (copied / "thesis.docx").write_text("years")
    assert (copied / "thesis.docx").read_text() == "years"
    assert (copied / "config.json").read_text() == "new"
