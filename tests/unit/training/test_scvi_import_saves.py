"""Reading what scvi-tools saved: what is found, what is refused, and that nothing of it runs."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tests.reference.saves import SAVES, Save, altered, save_named

from totalanvi.training import ArgumentError, CheckpointError
from totalanvi.training.scvi_import.inert import read_inert
from totalanvi.training.scvi_import.saves import read_save

TOTALANVI = save_named("totalanvi")


@pytest.mark.parametrize("save", SAVES, ids=str)
def test_every_layout_is_read(save: Save) -> None:
    found = read_save(save.folder)
    assert found.version == save.version
    assert found.kind == ("TOTALANVI" if save.is_labelled else "TOTALVI")
    assert found.setup_method == ("setup_mudata" if save.name.endswith("mudata") else "setup_anndata")
    assert found.options["n_latent"] == 4
    assert found.options["n_hidden"] == 8
    assert found.weights["encoder.z_mean_encoder.weight"].shape == (4, 8)
    assert found.is_trained
    assert found.n_cells == 72
    assert found.split is not None
    parts = np.concatenate([found.split.train, found.split.validation, found.split.test])
    assert sorted(parts) == list(range(72))


def test_fields_that_are_not_registered_have_no_state() -> None:
    found = read_save(TOTALANVI.folder)
    assert found.state("size_factor") is None
    assert found.state("no such field") is None
    assert list((found.state("batch") or {})["categorical_mapping"]) == ["run_1", "run_2"]
    assert read_save(save_named("totalvi_size_factor").folder).state("size_factor") == {}


def test_a_prefix_names_one_of_several_models(tmp_path: Path) -> None:
    shutil.copy(TOTALANVI.folder / "model.pt", tmp_path / "mine_model.pt")
    assert read_save(tmp_path, "mine_").kind == "TOTALANVI"
    with pytest.raises(
        CheckpointError, match=r"Expected model.pt in .*, found mine_model.pt; name its prefix, 'mine_'"
    ):
        read_save(tmp_path)


def test_a_model_that_does_not_say_what_trained_it_has_no_split(tmp_path: Path) -> None:
    assert read_save(altered(TOTALANVI, tmp_path, train_indices_=None)).split is None


# What is no such folder


def touch(*names: str) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        for name in names:
            (folder / name).touch()

    return act


def truncate(folder: Path) -> None:
    (folder / "model.pt").write_bytes((TOTALANVI.folder / "model.pt").read_bytes()[:20_000])


def plain(content: object) -> Callable[[Path], None]:
    return lambda folder: torch.save(content, folder / "model.pt")


def registered(**fields: str) -> Callable[[Path], None]:
    registry = read_inert(TOTALANVI.folder / "model.pt")["attr_dict"]["registry_"] | fields
    return lambda folder: altered(TOTALANVI, folder, registry_=registry) and None


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (Path.rmdir, r"Expected a folder .* found nothing; give the folder"),
        (lambda folder: (folder.rmdir(), folder.touch()), r"Expected a folder .* found a file; give the folder"),
        (touch(), r"Expected model.pt in .*, found no file; give the folder"),
        (touch("adata.h5ad", "notes.txt"), r"Expected model.pt in .*, found adata.h5ad, notes.txt; give the folder"),
        (touch("model_params.pt", "var_names.csv", "attr.pkl"), r"layout .* before 0.15; convert it with .*legacy"),
        (touch("config.json", "model.safetensors"), r"found a checkpoint of totalanvi; use it as it is"),
        (touch("model.pt"), r"found a file that cannot be read .*; save the model anew, or restore"),
        (truncate, r"found a file that cannot be read .*; save the model anew, or restore"),
        (plain([1, 2]), r"found another layout .*; load it and save it anew"),
        (plain({"attr_dict": {}}), r"found another layout .*; load it and save it anew"),
        (registered(model_name="SCVI"), r"Expected a model of TOTALVI or TOTALANVI in .*, found one of SCVI; give one"),
        (registered(setup_method_name="setup_datamodule"), r"found setup_datamodule; .* train it on an AnnData"),
    ],
)
def test_what_is_no_saved_model_is_refused(make: Callable[[Path], None], expected: str, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    folder.mkdir()
    make(folder)
    with pytest.raises(CheckpointError, match=f"(?s){expected}"):
        read_save(folder)


# What would run code


class Call:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., Any], *arguments: object):
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.function, self.arguments


@pytest.mark.parametrize(
    ("function", "named"),
    [(os.system, "posix.system"), (eval, "builtins.eval"), (Path, "pathlib"), (np.load, "numpy.*load")],
)
def test_a_file_that_names_a_call_is_refused_and_not_run(
    function: Callable[..., Any], named: str, tmp_path: Path
) -> None:
    made = tmp_path / "made"
    code = f"touch {made}" if function is os.system else f"open({str(made)!r}, 'w')"
    torch.save({"model_state_dict": {}, "attr_dict": Call(function, code)}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=rf"would call .*{named}.*; nothing of it was run"):
        read_save(tmp_path)
    assert not made.exists()


def test_what_stands_for_the_history_is_not_run_either(tmp_path: Path) -> None:
    """Names of pandas are read, as something that does nothing."""
    made = tmp_path / "made"
    torch.save({"history_": Call(pd.to_pickle, 1, str(made))}, tmp_path / "model.pt")
    assert read_inert(tmp_path / "model.pt") == {"history_": None}
    assert not made.exists()


def test_a_bare_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    made = tmp_path / "made"
    (tmp_path / "model.pt").write_bytes(pickle.dumps(Call(os.system, f"touch {made}"), protocol=2))
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_save(tmp_path)
    assert not made.exists()


def test_arrays_and_numbers_come_back_as_they_were(tmp_path: Path) -> None:
    written = {
        "objects": np.array(["one", 2, None], dtype=object),
        "text": np.array(["a", "long one"]),
        "fortran": np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3)),
        "big-endian": np.arange(3, dtype=">f8"),
        "flags": np.array([True, False]),
        "empty": np.empty((0, 2)),
    }
    torch.save({**written, "number": np.float64(0.5), "nested": (np.int64(3), [np.arange(2)])}, tmp_path / "model.pt")
    found = read_inert(tmp_path / "model.pt")
    for name, array in written.items():
        assert found[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found[name], array)
    assert found["number"] == 0.5
    assert found["nested"][0] == 3
    np.testing.assert_array_equal(found["nested"][1][0], [0, 1])


def test_an_array_of_another_kind_is_refused(tmp_path: Path) -> None:
    torch.save({"when": np.array(["2020-01-01"], dtype="datetime64[D]")}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="an array of type 'M8'"):
        read_inert(tmp_path / "model.pt")


def test_a_prefix_that_leads_out_of_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"prefix: expected the beginning of a file name, found '\.\./'"):
        read_save(tmp_path, "../")


def test_a_folder_called_model_pt_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.pt").mkdir()
    with pytest.raises(CheckpointError, match=r"Expected model.pt in .*, found no file; give the folder that holds it"):
        read_save(tmp_path)
