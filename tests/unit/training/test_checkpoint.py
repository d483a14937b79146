"""Checkpoints: what is written is what is read, nothing of it is a pickle, and what was altered is refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import mudata as md
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from tests.support.altered_checkpoint import sign
from tests.support.reference_cells import FAST, draw_adata

from totalanvi.training import TOTALANVI, TOTALVI
from totalanvi.training.checkpoints.checkpoint import read_checkpoint, write_checkpoint
from totalanvi.training.errors import ArgumentError, CheckpointError

FILES = ["cells.safetensors", "config.json", "model.safetensors", "readout.safetensors", "registry.json"]
"""Those that are read; beside them is `report.html`, for people."""


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
    assert config["version"] == 3
    assert config["class"] == "TOTALANVI"
    assert config["versions"]["torch"] == version("torch")
    training = config["training"]
    assert training["n_cells"] == reference_mdata.n_obs
    assert training["n_train"] + training["n_validation"] == reference_mdata.n_obs
    assert training["n_labelled"] == int((reference_mdata["rna"].obs["cell_type"] != "unknown").sum())
    assert training["n_epochs"] == 15
    assert len(training["data_digest"]) == 64


def test_no_file_is_a_pickle(saved: Path) -> None:
    assert sorted(file.name for file in saved.iterdir()) == sorted([*FILES, "report.html"])
    for file in (saved / name for name in FILES):
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


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_the_split_survives(reference_mdata: md.MuData, tmp_path: Path, part: str) -> None:
    model = TOTALVI(reference_mdata, n_hidden=8, empirical_protein_background_prior=False)
    model.train(max_epochs=1, train_size=0.5, validation_size=0.3, **FAST)
    model.save(tmp_path / "checkpoint")
    loaded, expected = (getattr(m, f"{part}_indices") for m in (TOTALVI.load(tmp_path / "checkpoint"), model))
    assert len(expected) > 0
    assert np.array_equal(loaded, expected)
    assert loaded.dtype == expected.dtype


def test_other_data_does_not_change_the_cells_that_travel(
    saved: Path, reference_mdata: md.MuData, tmp_path: Path
) -> None:
    loaded = TOTALANVI.load(saved, adata=reference_mdata[:30].copy())
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again" / "cells.safetensors").read_bytes() == (saved / "cells.safetensors").read_bytes()


def test_cells_that_trained_anew_travel(saved: Path, reference_mdata: md.MuData, tmp_path: Path) -> None:
    loaded = TOTALANVI.load(saved, adata=reference_mdata)
    loaded.train(max_epochs=1, train_size=0.5, **FAST)
    loaded.save(tmp_path / "again")
    sample = read_checkpoint(tmp_path / "again").sample
    assert len(sample.landmarks) == len(loaded.train_indices) == 200


def test_what_is_frozen_stays_frozen(reference_mdata: md.MuData, tmp_path: Path) -> None:
    model = TOTALVI(reference_mdata, n_hidden=8, empirical_protein_background_prior=False)
    frozen = ["background_pro_alpha", "background_pro_log_beta"]
    for name in frozen:
        model.module.get_parameter(name).requires_grad_(False)
    model.save(tmp_path / "checkpoint")
    loaded = TOTALVI.load(tmp_path / "checkpoint")
    assert [name for name, weight in loaded.module.named_parameters() if not weight.requires_grad] == frozen


def test_what_is_frozen_in_part_stays_so(saved: Path, tmp_path: Path) -> None:
    record = read_checkpoint(saved)
    assert record.trained_parts == {}
    part = torch.zeros_like(record.weights["px_r"], dtype=torch.bool)
    part[::3] = True
    write_checkpoint(tmp_path / "checkpoint", dataclasses.replace(record, trained_parts={"px_r": part}))
    again = read_checkpoint(tmp_path / "checkpoint")
    assert again.trained_parts.keys() == {"px_r"}
    assert torch.equal(again.trained_parts["px_r"], part)
    assert again.weights.keys() == record.weights.keys()
    TOTALANVI.load(tmp_path / "checkpoint").save(tmp_path / "again")
    assert torch.equal(read_checkpoint(tmp_path / "again").trained_parts["px_r"], part)


def test_a_checkpoint_of_version_1(tmp_path: Path) -> None:
    """The fixture was written by totalanvi 0.1.0, with the latent means of its cells."""
    data = Path(__file__).parents[2] / "data"
    loaded = TOTALANVI.load(data / "checkpoint_version_1", adata=draw_adata())
    expected = json.loads((data / "checkpoint_version_1_latent.json").read_text())
    np.testing.assert_allclose(loaded.get_latent_representation(), expected, atol=1e-5)
    assert loaded.is_trained
    assert len(read_checkpoint(data / "checkpoint_version_1").sample.landmarks) == 16
    with pytest.raises(ArgumentError, match="keeps no split"):
        _ = loaded.validation_indices
    loaded.save(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["version"] == 3


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


# Reading what is not whole


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file(copied: Path, name: str) -> None:
    cut(copied / name)
    if name != "config.json":
        with pytest.raises(CheckpointError, match=rf"{name}: expected the file that was saved, found .*; restore it"):
            TOTALANVI.load(copied)
        sign(copied)
    with pytest.raises(CheckpointError, match=r"Expected .*read.*; train again, or restore the f"):
        TOTALANVI.load(copied)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file(copied: Path, name: str) -> None:
    (copied / name).unlink()
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        TOTALANVI.load(copied)


@pytest.mark.parametrize("name", [name for name in FILES if name != "config.json"])
def test_an_altered_byte_is_noticed(copied: Path, name: str) -> None:
    content = bytearray((copied / name).read_bytes())
    content[-20] ^= 1
    (copied / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{name}: expected the file that was saved, found one that was altered"):
        TOTALANVI.load(copied)


@pytest.mark.parametrize("left", [b"mine", None])
def test_a_page_may_be_changed_or_lost(copied: Path, left: bytes | None) -> None:
    (copied / "report.html").unlink()
    if left is not None:
        (copied / "report.html").write_bytes(left)
    assert TOTALANVI.load(copied).is_trained


def edit(file: Path, change: Callable[[dict[str, object]], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    if file.name != "config.json":
        sign(file.parent)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "config.json",
            lambda c: c.update(version=4),
            r"Expected a checkpoint of version 3 or older, found that .* has 4; upgrade",
        ),
        (
            "registry.json",
            lambda c: c.update(version=4),
            r"Expected a registry of version 3 or older .* found version 4",
        ),
        ("registry.json", lambda c: c.pop("version"), r"found version None"),
        ("config.json", lambda c: c.update(format="other"), r"cannot be read \(ValueError: format 'other'\)"),
        ("config.json", lambda c: c.update(version="1"), r"cannot be read \(TypeError"),
        ("config.json", lambda c: c.pop("training"), r"cannot be read \(KeyError: 'training'\)"),
        ("config.json", lambda c: c.update(model=[], history=3), r"model, history of another type in config\.json"),
        ("config.json", lambda c: c.update(history={"elbo": 3}), r"cannot be read \(TypeError"),
        ("config.json", lambda c: c.pop("files"), r"cannot be read \(KeyError: 'files'\)"),
        (
            "config.json",
            lambda c: c["files"].pop("model.safetensors"),
            r"cannot be read \(KeyError: 'model\.safetensors'",
        ),
        ("config.json", lambda c: c.update(frozen=["decoder.x"]), r"whose files belong together, .*decoder\.x"),
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
    sign(copied)
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
