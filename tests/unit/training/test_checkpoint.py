"""Checkpoints: what is written is what is read, nothing of it is a pickle, and nothing else is ever deleted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import mudata as md
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from tests.support.reference_cells import draw_cells

from totalanvi.training import TOTALANVI, TOTALVI
from totalanvi.training.checkpoint import read_checkpoint, sample_reference
from totalanvi.training.data import Cells
from totalanvi.training.errors import CheckpointError

FILES = ["cells.safetensors", "config.json", "model.safetensors", "registry.json"]


@pytest.fixture(scope="module")
def saved(trained: TOTALANVI, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of `trained`. Not to be changed."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoint"
    trained.save(folder)
    return folder


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    """A copy to do things to."""
    shutil.copytree(saved, tmp_path / "copy")
    return tmp_path / "copy"


# What is written is what is read


def test_predictions_survive_to_the_bit(trained: TOTALANVI, saved: Path, reference_mdata: md.MuData) -> None:
    loaded = TOTALANVI.load(saved, adata=reference_mdata)
    assert np.array_equal(loaded.predict(soft=True), trained.predict(soft=True))
    assert np.array_equal(loaded.get_latent_representation(), trained.get_latent_representation())
    for name, weight in trained.module.state_dict().items():
        assert torch.equal(loaded.module.state_dict()[name], weight), name
    assert loaded.registry == trained.registry
    assert loaded.module.config == trained.module.config
    assert repr(loaded) == repr(trained)
    assert loaded.is_trained


def test_a_model_that_was_just_trained_survives_to_the_bit(
    trained_totalvi: TOTALVI, reference_mdata: md.MuData, tmp_path: Path
) -> None:
    trained_totalvi.save(tmp_path / "checkpoint")
    loaded = TOTALVI.load(tmp_path / "checkpoint", adata=reference_mdata)
    assert np.array_equal(loaded.get_latent_representation(), trained_totalvi.get_latent_representation())
    answers = []
    for model in (loaded, trained_totalvi):
        torch.manual_seed(0)
        answers.append(model.get_normalized_expression(return_numpy=True))
    assert all(np.array_equal(one, other) for one, other in zip(*answers, strict=True))


def test_who_may_read_one_file_may_read_all(saved: Path) -> None:
    assert len({(saved / name).stat().st_mode for name in FILES}) == 1


def test_history_survives(trained: TOTALANVI, saved: Path) -> None:
    loaded = TOTALANVI.load(saved)
    assert loaded.history.keys() == trained.history.keys()
    for name, frame in trained.history.items():
        assert loaded.history[name].equals(frame), name


def test_it_says_how_it_was_made(saved: Path, reference_mdata: md.MuData) -> None:
    config = json.loads((saved / "config.json").read_text())
    assert config["format"] == "totalanvi checkpoint"
    assert config["version"] == 1
    assert config["class"] == "TOTALANVI"
    assert config["versions"]["torch"] == torch.__version__
    training = config["training"]
    assert training["n_cells"] == reference_mdata.n_obs
    assert training["n_train"] + training["n_validation"] == reference_mdata.n_obs
    assert training["n_labelled"] == int((reference_mdata["rna"].obs["cell_type"] != "unknown").sum())
    assert training["n_epochs"] == 15
    assert len(training["data_digest"]) == 64


def test_no_file_is_a_pickle(saved: Path) -> None:
    assert sorted(file.name for file in saved.iterdir()) == FILES
    for file in saved.iterdir():
        head = file.read_bytes()[:16]
        # A zip (torch.save) begins with PK, a pickle with \x80; a safetensors header is JSON after its length.
        assert head[8:9] == b"{" if file.suffix == ".safetensors" else head[:1] == b"{"


def test_its_cells_are_those_of_the_split(trained_totalvi: TOTALVI, tmp_path: Path) -> None:
    trained_totalvi.save(tmp_path / "checkpoint")
    sample = read_checkpoint(tmp_path / "checkpoint").sample
    for part, indices in (
        (sample.landmarks, trained_totalvi.train_indices),
        (sample.held_out, trained_totalvi.validation_indices),
    ):
        cells = trained_totalvi._cells[indices]
        assert len(part) == len(cells) > 0
        assert (part.rna != cells.rna).nnz == 0
        for name in ("protein", "measured", "batch", "panel", "label"):
            assert np.array_equal(getattr(part, name), getattr(cells, name)), name


def test_a_loaded_model_saves_what_it_loaded(saved: Path, tmp_path: Path) -> None:
    TOTALANVI.load(saved).save(tmp_path / "again")
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (saved / name).read_bytes(), name


def test_a_model_that_was_not_trained(reference_mdata: md.MuData, tmp_path: Path) -> None:
    TOTALVI(reference_mdata, n_hidden=8, empirical_protein_background_prior=False).save(tmp_path / "fresh")
    loaded = TOTALVI.load(tmp_path / "fresh")
    assert not loaded.is_trained
    assert not (tmp_path / "fresh" / "cells.safetensors").exists()


def test_training_goes_on_after_loading(saved: Path, reference_mdata: md.MuData) -> None:
    loaded = TOTALANVI.load(saved, adata=reference_mdata)
    before = {name: weight.clone() for name, weight in loaded.module.state_dict().items()}
    loaded.train(max_epochs=1, accelerator="cpu", progress=False)
    after = loaded.module.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_numbers_of_numpy_have_a_place(reference_mdata: md.MuData, tmp_path: Path) -> None:
    model = TOTALVI(reference_mdata, n_latent=np.int64(4), n_hidden=8, empirical_protein_background_prior=False)
    model.train(max_epochs=np.int64(1), lr=np.float32(0.01), seed=np.int64(4), accelerator="cpu", progress=False)
    model.save(tmp_path / "checkpoint")
    assert read_checkpoint(tmp_path / "checkpoint").training["options"]["seed"] == 4


# Landmarks


def many_cells(sizes: list[int]) -> Cells:
    cells = draw_cells(n_cells=sum(sizes))
    return Cells(**{**cells.__dict__, "label": np.repeat(np.arange(len(sizes)) - 1, sizes)})


def test_rare_labels_are_among_the_landmarks() -> None:
    cells = many_cells([2_000, 4_000, 30])
    train, held_out = np.arange(6_030), np.arange(5)
    sample = sample_reference(cells, train, held_out)
    sizes = np.bincount(sample.landmarks.label + 1)
    assert sizes.sum() <= 2_000
    assert sizes[2] == 30
    assert sizes[0] / sizes[1] == pytest.approx(0.5**0.5, rel=0.01)
    again = sample_reference(cells, train, held_out)
    assert np.array_equal(again.landmarks.protein, sample.landmarks.protein)


def test_few_cells_are_all_kept_and_many_held_out_are_not() -> None:
    cells = many_cells([10, 4_200])
    sample = sample_reference(cells, np.arange(10), np.arange(10, 4_210))
    assert len(sample.landmarks) == 10
    assert len(sample.held_out) == 4_000


# Overwriting


def test_nothing_is_overwritten_unasked(trained: TOTALANVI, copied: Path) -> None:
    before = (copied / "config.json").read_bytes()
    with pytest.raises(
        CheckpointError, match=r"does not exist yet, found .*; choose another, or overwrite it \(--overwrite\)"
    ):
        trained.save(copied)
    assert (copied / "config.json").read_bytes() == before


def test_a_checkpoint_may_be_replaced(trained_totalvi: TOTALVI, copied: Path) -> None:
    trained_totalvi.save(copied, overwrite=True)
    assert read_checkpoint(copied).kind == "TOTALVI"
    assert sorted(file.name for file in copied.iterdir()) == FILES
    assert [file.name for file in copied.parent.iterdir()] == ["copy"]


def test_an_empty_folder_may_be_used(trained_totalvi: TOTALVI, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    trained_totalvi.save(tmp_path / "empty", overwrite=True)
    assert read_checkpoint(tmp_path / "empty").kind == "TOTALVI"


def test_folders_above_are_made(trained_totalvi: TOTALVI, tmp_path: Path) -> None:
    trained_totalvi.save(tmp_path / "a" / "b")
    assert read_checkpoint(tmp_path / "a" / "b").kind == "TOTALVI"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"thesis.docx": "years"},
            r"expected a checkpoint to replace, found something else \(it holds thesis\.docx\), which would be lost",
        ),
        (
            {"config.json": '{"hidden_size": 768}'},
            "expected a checkpoint to replace, found something else, which would be lost",
        ),
        ({"config.json": "[]"}, "expected a checkpoint to replace, found something else, which would be lost"),
        ({"config.json": '{"format": "totalanvi checkpoint"}', "notes.txt": "mine"}, r"it holds notes\.txt"),
    ],
)
def test_a_foreign_folder_is_never_deleted(
    trained_totalvi: TOTALVI, tmp_path: Path, content: dict[str, str], message: str
) -> None:
    folder = tmp_path / "foreign"
    folder.mkdir()
    for name, text in content.items():
        (folder / name).write_text(text)
    with pytest.raises(CheckpointError, match=message):
        trained_totalvi.save(folder, overwrite=True)
    assert {file.name: file.read_text() for file in folder.iterdir()} == content


def test_a_file_is_no_folder(trained_totalvi: TOTALVI, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckpointError, match=r"a checkpoint to replace, found something else \(it is a file\)"):
        trained_totalvi.save(tmp_path / "file", overwrite=True)
    with pytest.raises(
        CheckpointError, match=r"Expected a folder in which to make .*, which is a file; choose another"
    ):
        trained_totalvi.save(tmp_path / "file" / "checkpoint")
    assert (tmp_path / "file").read_text() == "mine"


def test_what_fails_leaves_nothing_behind(reference_mdata: md.MuData, tmp_path: Path) -> None:
    model = TOTALVI(reference_mdata, n_hidden=8, empirical_protein_background_prior=False)
    model._training = {"options": object()}
    with pytest.raises(TypeError, match="not JSON serializable"):
        model.save(tmp_path / "checkpoint")
    assert not list(tmp_path.iterdir())


# Reading what is not whole


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file(copied: Path, name: str) -> None:
    cut(copied / name)
    with pytest.raises(CheckpointError, match=r"Expected .*read.*; train again, or restore the f"):
        TOTALANVI.load(copied)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "registry.json"])
def test_a_missing_file(copied: Path, name: str) -> None:
    (copied / name).unlink()
    with pytest.raises(
        CheckpointError, match=name.replace(".", r"\.") if name != "model.safetensors" else "No such file"
    ):
        TOTALANVI.load(copied)


def edit(file: Path, change: Callable[[dict[str, object]], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "config.json",
            lambda c: c.update(version=2),
            r"Expected a checkpoint of version 1 or older, found that .* has 2; upgrade",
        ),
        (
            "registry.json",
            lambda c: c.update(version=3),
            r"Expected a registry of version 2 or older .* found version 3",
        ),
        ("registry.json", lambda c: c.pop("version"), r"found version None"),
        ("config.json", lambda c: c.update(format="other"), r"cannot be read \(ValueError: format 'other'\)"),
        ("config.json", lambda c: c.update(version="1"), r"cannot be read \(TypeError"),
        ("config.json", lambda c: c.pop("training"), r"cannot be read \(KeyError: 'training'\)"),
        ("config.json", lambda c: c.update(model=[], history=3), r"model, history of another type in config\.json"),
        (
            "config.json",
            lambda c: c["model"].update(n_latent=9),
            r"whose files belong together, .*size mismatch for [^:]*: [^:]*\); train",
        ),
        ("config.json", lambda c: c["model"].update(n_latent="x"), r"whose files belong together"),
        (
            "config.json",
            lambda c: c["model"].update(depth=9),
            r"belong together, .* \(Expected model options out of .*, found depth; ",
        ),
        ("registry.json", lambda c: c["genes"].pop(), r"whose files belong together"),
        ("registry.json", lambda c: c.pop("genes"), r"Expected a registry that this version knows"),
        ("registry.json", lambda c: c["setup"].pop("kind"), r"whose files belong together"),
        ("registry.json", lambda c: c["setup"].update(colour=1), r"whose files belong together"),
    ],
)
def test_altered_files(copied: Path, name: str, change: Callable[[dict[str, object]], object], message: str) -> None:
    edit(copied / name, change)
    with pytest.raises(CheckpointError, match=message) as caught:
        TOTALANVI.load(copied)
    assert caught.value.exit_code == 2


def test_cells_without_an_array(copied: Path) -> None:
    arrays = load_file(copied / "cells.safetensors")
    del arrays["held_out.label"]
    save_file(arrays, copied / "cells.safetensors")
    with pytest.raises(CheckpointError, match=r"KeyError: 'held_out\.label'"):
        read_checkpoint(copied)


def test_a_checkpoint_of_another_class(saved: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"Expected a checkpoint of TOTALVI .* found one of TOTALANVI; load it with"
    ):
        TOTALVI.load(saved)


@pytest.mark.parametrize(("name", "found"), [("nowhere", "no such folder"), ("", r"a folder without config\.json")])
def test_no_checkpoint_at_all(tmp_path: Path, name: str, found: str) -> None:
    with pytest.raises(CheckpointError, match=f"Expected a checkpoint at .*, found {found}; give the folder"):
        TOTALANVI.load(tmp_path / name)
