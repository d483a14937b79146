"""Saves in parts, made by hand as scripts for scvi-tools do, and what a pickle may hold to be read at all."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import mudata as md
import numpy as np
import pandas as pd
import pytest
import torch

from totalanvi.training import TOTALANVI, TOTALVI, CheckpointError
from totalanvi.training.checkpoints.plain_pickle import read_plain_pickle


def save_in_parts(model: TOTALVI, folder: Path, prefix: str = "") -> None:
    """Weights by torch, and a pickle of the attributes whose names end in an underscore."""
    folder.mkdir()
    torch.save(model.module.state_dict(), folder / f"{prefix}model_params.pt")
    attributes = {name: value for name, value in model._get_user_attributes() if name.endswith("_")}
    (folder / f"{prefix}attr.pkl").write_bytes(pickle.dumps(attributes))
    (folder / f"{prefix}var_names.csv").write_text("\n".join(model.registry.genes))


@pytest.mark.parametrize("prefix", ["", "TOTALANVI_"])
def test_a_save_in_parts_becomes_a_checkpoint(
    trained: TOTALANVI, reference_mdata: md.MuData, tmp_path: Path, prefix: str
) -> None:
    save_in_parts(trained, tmp_path / "parts", prefix)
    with pytest.raises(CheckpointError, match=r"a save in parts; convert it with convert_legacy_save\(\.\.\.\)"):
        TOTALANVI.load(tmp_path / "parts", adata=reference_mdata, prefix=prefix)
    TOTALANVI.convert_legacy_save(tmp_path / "parts", tmp_path / "parts", overwrite=True, prefix=prefix)
    loaded = TOTALANVI.load(tmp_path / "parts", adata=reference_mdata, prefix=prefix)
    assert np.array_equal(loaded.predict(soft=True), trained.predict(soft=True))
    assert loaded.registry == trained.registry
    assert np.array_equal(loaded.validation_indices, trained.validation_indices)
    assert all(loaded.history[name].equals(frame) for name, frame in trained.history.items())
    assert (tmp_path / "parts" / f"{prefix}attr.pkl").exists()


def test_frozen_parameters_survive_the_parts(trained_totalvi: TOTALVI, tmp_path: Path) -> None:
    model = TOTALVI(trained_totalvi.adata, n_hidden=8)
    model.module.background_pro_alpha.requires_grad_(False)
    save_in_parts(model, tmp_path / "parts")
    TOTALVI.convert_legacy_save(tmp_path / "parts", tmp_path / "whole")
    loaded = TOTALVI.load(tmp_path / "whole")
    assert not loaded.module.background_pro_alpha.requires_grad
    assert loaded.module.px_r.requires_grad
    assert not loaded.is_trained


def test_a_folder_that_exists_is_not_written_unasked(trained_totalvi: TOTALVI, tmp_path: Path) -> None:
    save_in_parts(trained_totalvi, tmp_path / "parts")
    with pytest.raises(CheckpointError, match="Expected a folder that does not exist yet"):
        TOTALVI.convert_legacy_save(tmp_path / "parts", tmp_path / "parts")


def test_the_save_of_another_program_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match="with a save of scvi-tools; read it with `totalanvi import-scvi`"):
        TOTALVI.load(tmp_path)


class Harmful:
    """Whose unpickling makes a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("file", ["attr.pkl", "model_params.pt"])
def test_nothing_in_a_save_in_parts_runs(trained_totalvi: TOTALVI, tmp_path: Path, file: str) -> None:
    save_in_parts(trained_totalvi, tmp_path / "parts")
    harmful = {"weight": Harmful(tmp_path / "harm")}
    if file == "attr.pkl":
        (tmp_path / "parts" / file).write_bytes(pickle.dumps(harmful))
    else:
        torch.save(harmful, tmp_path / "parts" / file)
    with pytest.raises(CheckpointError, match=file if file == "attr.pkl" else "model_params.pt holds no weights"):
        TOTALVI.convert_legacy_save(tmp_path / "parts", tmp_path / "whole")
    assert not (tmp_path / "harm").exists()
    assert not (tmp_path / "whole").exists()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("attr.pkl", None, r"a save in parts of a model of totalanvi, found .*No such file"),
        ("attr.pkl", pickle.dumps({"registry_": {}}), r"cannot be read \(KeyError: 'split_'\); save the model again"),
        ("attr.pkl", pickle.dumps([]), r"cannot be read \(TypeError"),
        ("model_params.pt", None, r"holds no weights: .*No such file"),
        ("model_params.pt", b"PK", "holds no weights"),
    ],
)
def test_a_save_in_parts_that_is_not_whole(
    trained_totalvi: TOTALVI, tmp_path: Path, file: str, content: bytes | None, message: str
) -> None:
    save_in_parts(trained_totalvi, tmp_path / "parts")
    (tmp_path / "parts" / file).unlink()
    if content is not None:
        (tmp_path / "parts" / file).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        TOTALVI.convert_legacy_save(tmp_path / "parts", tmp_path / "whole")


def test_weights_alone_are_weights(trained_totalvi: TOTALVI, tmp_path: Path) -> None:
    save_in_parts(trained_totalvi, tmp_path / "parts")
    torch.save({"weights": 3}, tmp_path / "parts" / "model_params.pt")
    with pytest.raises(CheckpointError, match="holds something else than weights"):
        TOTALVI.convert_legacy_save(tmp_path / "parts", tmp_path / "whole")


# Plain pickles


def test_shared_values_and_many_items() -> None:
    shared = ["gene"] * 3
    value = {"a": shared, "b": shared, "many": list(range(5_000)), "pairs": {str(i): i for i in range(3_000)}}
    assert read_plain_pickle(pickle.dumps(value)) == value


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("value", "asked"),
    [
        (np.float32(1.0), "numpy"),
        (np.arange(3), "numpy"),
        (pd.DataFrame({"a": [1]}), "pandas"),
        (Path("file"), "pathlib"),
        (os.system, "posix|nt"),
    ],
)
def test_anything_else_is_refused_by_name(value: object, asked: str, protocol: int) -> None:
    with pytest.raises(CheckpointError, match=rf"Expected a pickle of plain values, found the step \w+ \(({asked})\b"):
        read_plain_pickle(pickle.dumps({"plain": 1, "other": value}, protocol))


@pytest.mark.parametrize("value", [{1, 2}, b"bytes", bytearray(b"bytes"), frozenset([1])])
def test_other_kinds_are_refused_too(value: object) -> None:
    with pytest.raises(CheckpointError, match="Expected a pickle of plain values, found the step"):
        read_plain_pickle(pickle.dumps(value))
