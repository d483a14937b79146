"""An interrupted run goes on as if it had not been, and its state is no pickle."""

from __future__ import annotations

import signal
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import mudata as md
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from totalanvi.training import TOTALANVI
from totalanvi.training.errors import CheckpointError
from totalanvi.training.fitting.random_state import random_state, restore_random_state
from totalanvi.training.fitting.resume import SafeCheckpointIO
from totalanvi.training.fitting.trainer import RESUME_FILE

N_EPOCHS = 4
OPTIONS: dict[str, Any] = {
    "max_epochs": N_EPOCHS,
    "batch_size": 128,
    "accelerator": "cpu",
    "progress": False,
    "adversarial_classifier": True,
    "n_epochs_kl_warmup": 10,
    "plan_kwargs": {"lr_patience": 0},
}


class PowerCut(L.Callback):
    """Ends a run with an error in the middle of an epoch."""

    def __init__(self, epoch: int):
        self.epoch = epoch

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        if trainer.current_epoch == self.epoch:
            raise RuntimeError("power cut")


def new_model(reference_mdata: md.MuData) -> TOTALANVI:
    return TOTALANVI(reference_mdata, n_latent=4, n_hidden=16, empirical_protein_background_prior=False)


def weights(model: TOTALANVI) -> dict[str, Tensor]:
    return model.module.state_dict()


@pytest.fixture(scope="module")
def uninterrupted(reference_mdata: md.MuData) -> TOTALANVI:
    model = new_model(reference_mdata)
    model.train(**OPTIONS)
    return model


def test_the_same_seed_gives_the_same_weights(reference_mdata: md.MuData, uninterrupted: TOTALANVI) -> None:
    torch.manual_seed(12345)  # whatever was drawn before
    again = new_model(reference_mdata)
    again.train(**OPTIONS)
    for name, weight in weights(uninterrupted).items():
        assert torch.equal(weights(again)[name], weight), name
    for name, frame in uninterrupted.history.items():
        assert again.history[name].equals(frame), name


def test_another_seed_gives_other_weights(reference_mdata: md.MuData, uninterrupted: TOTALANVI) -> None:
    other = new_model(reference_mdata)
    other.train(**OPTIONS | {"max_epochs": 1, "seed": 1})
    assert not torch.equal(weights(other)["px_r"], weights(uninterrupted)["px_r"])
    assert set(other.validation_indices) != set(uninterrupted.validation_indices)


def test_training_leaves_the_users_random_numbers_alone(reference_mdata: md.MuData) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    new_model(reference_mdata).train(**OPTIONS | {"max_epochs": 1})
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("epoch", [0, 2])
def test_an_interrupted_run_equals_one_that_was_not(
    reference_mdata: md.MuData, uninterrupted: TOTALANVI, tmp_path: Path, epoch: int
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(RuntimeError, match="power cut"):
        new_model(reference_mdata).train(**OPTIONS, resume_folder=folder, callbacks=[PowerCut(epoch)])
    kept = [file.name for file in folder.iterdir()] if folder.exists() else []
    assert kept == ([RESUME_FILE] if epoch else [])

    resumed = new_model(reference_mdata)
    resumed.train(**OPTIONS, resume_folder=folder)
    for name, weight in weights(uninterrupted).items():
        assert torch.equal(weights(resumed)[name], weight), name
    assert resumed.history.keys() == uninterrupted.history.keys()
    for name, frame in uninterrupted.history.items():
        assert resumed.history[name].index.tolist() == list(range(N_EPOCHS)), name
        assert torch.allclose(*(torch.tensor(f.to_numpy()) for f in (resumed.history[name], frame)), rtol=1e-4), name
    # A run that has ended leaves nothing to resume.
    assert not list(folder.iterdir())


def test_a_run_with_other_options_is_resumed_as_well(reference_mdata: md.MuData, tmp_path: Path) -> None:
    options = OPTIONS | {
        "n_samples_per_label": 20,
        "check_val_every_n_epoch": 2,
        "early_stopping_monitor": "validation_accuracy",
        "early_stopping_mode": "max",
        "plan_kwargs": {
            "optimizer": "Custom",
            "optimizer_creator": lambda weights: torch.optim.SGD(weights, lr=1e-5, momentum=0.9),
            "key_adversarial": "panel",
            "scale_adversarial_loss": 0.5,
            "min_kl_weight": 0.1,
        },
        "datasplitter_kwargs": {"drop_last": True},
    }
    whole, resumed = new_model(reference_mdata), new_model(reference_mdata)
    whole.train(**options)
    with pytest.raises(RuntimeError, match="power cut"):
        new_model(reference_mdata).train(**options, resume_folder=tmp_path, callbacks=[PowerCut(3)])
    resumed.train(**options, resume_folder=tmp_path)
    for name, weight in weights(whole).items():
        assert torch.allclose(weights(resumed)[name], weight, rtol=1e-5, atol=1e-6), name
    assert not torch.equal(weights(whole)["px_r"], weights(new_model(reference_mdata))["px_r"])
    for name, frame in whole.history.items():
        assert resumed.history[name].index.equals(frame.index), name
        assert torch.allclose(*(torch.tensor(f.to_numpy()) for f in (resumed.history[name], frame)), rtol=1e-4), name
    assert whole.history["validation_accuracy"].index.tolist() == [1, 3]


def test_a_run_that_ended_at_once_is_not_resumed(reference_mdata: md.MuData, tmp_path: Path) -> None:
    model = new_model(reference_mdata)
    model.train(**OPTIONS | {"max_epochs": 1}, resume_folder=tmp_path)
    assert not list(tmp_path.iterdir())
    assert model.is_trained


class CtrlC(L.Callback):
    """A user who has seen enough."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.current_epoch == 1:
            signal.raise_signal(signal.SIGINT)


@pytest.fixture
def listening() -> Iterator[Any]:
    """Hear interrupts also where a shell runs the tests in the background, which ignores them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_is_an_interrupt_and_leaves_something_to_resume(
    listening: Any, reference_mdata: md.MuData, tmp_path: Path
) -> None:
    model = new_model(reference_mdata)
    with pytest.raises(KeyboardInterrupt):
        model.train(**OPTIONS | {"progress": True}, resume_folder=tmp_path, callbacks=[CtrlC()])
    assert signal.getsignal(signal.SIGINT) is listening
    assert not model.is_trained
    assert [file.name for file in tmp_path.iterdir()] == [RESUME_FILE]


@pytest.mark.parametrize("content", [b"", b"not a safetensors file", None])
def test_a_state_that_cannot_be_read(reference_mdata: md.MuData, tmp_path: Path, content: bytes | None) -> None:
    if content is None:
        save_file({"x": torch.ones(1)}, tmp_path / RESUME_FILE)  # a safetensors file, but not of ours
    else:
        (tmp_path / RESUME_FILE).write_bytes(content)
    with pytest.raises(
        CheckpointError, match=r"Expected an interrupted run at .*, found one that cannot be read .*; start without"
    ):
        new_model(reference_mdata).train(**OPTIONS, resume_folder=tmp_path)


def test_the_state_of_another_model_or_with_other_options(reference_mdata: md.MuData, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="power cut"):
        new_model(reference_mdata).train(**OPTIONS, resume_folder=tmp_path, callbacks=[PowerCut(1)])
    other = TOTALANVI(reference_mdata, n_latent=5, n_hidden=16, empirical_protein_background_prior=False)
    with pytest.raises(
        CheckpointError, match=r"found one of another \(the shape of its weights differ\); resume with what"
    ):
        other.train(**OPTIONS, resume_folder=tmp_path)
    with pytest.raises(CheckpointError, match=r"found one of another \(lr, seed differ\); resume with what"):
        new_model(reference_mdata).train(**OPTIONS, lr=0.1, seed=9, resume_folder=tmp_path)
    with pytest.raises(CheckpointError, match=r"found one of another \(n_samples_per_label differ\)"):
        new_model(reference_mdata).train(**OPTIONS, n_samples_per_label=9, resume_folder=tmp_path)
    assert (tmp_path / RESUME_FILE).exists()


def test_more_epochs_may_be_asked_for(reference_mdata: md.MuData, uninterrupted: TOTALANVI, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="power cut"):
        new_model(reference_mdata).train(**OPTIONS | {"max_epochs": 2}, resume_folder=tmp_path, callbacks=[PowerCut(1)])
    resumed = new_model(reference_mdata)
    resumed.train(**OPTIONS, resume_folder=tmp_path)
    assert torch.allclose(weights(resumed)["px_r"], weights(uninterrupted)["px_r"], rtol=1e-5, atol=1e-6)


def test_a_run_from_before_features_had_a_rate_of_their_own_goes_on_with_one_rate(
    reference_mdata: md.MuData, tmp_path: Path
) -> None:
    one_rate = OPTIONS | {"plan_kwargs": OPTIONS["plan_kwargs"] | {"feature_lr_factor": 1.0}}
    with pytest.raises(RuntimeError, match="power cut"):
        new_model(reference_mdata).train(**one_rate, resume_folder=tmp_path, callbacks=[PowerCut(2)])
    state = SafeCheckpointIO().load_checkpoint(tmp_path / RESUME_FILE)
    del state["options"]["feature_lr_factor"]
    SafeCheckpointIO().save_checkpoint(state, tmp_path / RESUME_FILE)
    with pytest.raises(CheckpointError, match=r"\(feature_lr_factor differ\)"):
        new_model(reference_mdata).train(**OPTIONS, resume_folder=tmp_path)
    resumed = new_model(reference_mdata)
    resumed.train(**one_rate, resume_folder=tmp_path)
    assert resumed.is_trained


def test_more_epochs_may_be_asked_for_while_a_run_cools_down(reference_mdata: md.MuData, tmp_path: Path) -> None:
    rates: list[float] = []

    class Rate(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    given = {name: value for name, value in OPTIONS.items() if name != "n_epochs_kl_warmup"}
    given |= {"reduce_lr_on_plateau": False, "early_stopping": False, "lr": 0.01}
    with pytest.raises(RuntimeError, match="power cut"):
        new_model(reference_mdata).train(**given | {"max_epochs": 4}, resume_folder=tmp_path, callbacks=[PowerCut(3)])
    # Three epochs of twelve are done, long before the last two fifths: the rate is whole again.
    new_model(reference_mdata).train(**given | {"max_epochs": 12}, resume_folder=tmp_path, callbacks=[Rate()])
    assert rates[0] == pytest.approx(0.01)
    assert rates[-1] < 0.005


def test_random_numbers_are_taken_up(tmp_path: Path) -> None:
    device = torch.device("cpu")
    SafeCheckpointIO().save_checkpoint(random_state(device), tmp_path / "state")
    first = torch.rand(3)
    restore_random_state(SafeCheckpointIO().load_checkpoint(tmp_path / "state"), device)
    assert torch.equal(torch.rand(3), first)


# The file itself

STATE: dict[str, Any] = {
    "state_dict": OrderedDict(weight=torch.arange(6.0).reshape(2, 3), code=torch.tensor(3)),
    "optimizer_states": [{"state": {0: {"step": torch.tensor(4.0)}}, "param_groups": [{"betas": (0.9, 0.999)}]}],
    "loops": {"a": None, "b": True, "c": 1.5, "d": "text", "e": float("inf"), 7: [1, (2, [])]},
    "rng": torch.arange(9, dtype=torch.uint8),
    "empty": {},
}


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) and type(one) is type(other)


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    io, file = SafeCheckpointIO(), tmp_path / "folder" / "state.safetensors"
    io.save_checkpoint(STATE, file)
    assert same(io.load_checkpoint(file), STATE)
    assert [path.name for path in file.parent.iterdir()] == ["state.safetensors"]
    io.remove_checkpoint(file)
    io.remove_checkpoint(file)
    assert not file.exists()


def test_shared_and_strided_tensors_are_kept(tmp_path: Path) -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    state = {"one": weight, "same": weight, "transposed": weight.t(), "part": weight[:, 1]}
    SafeCheckpointIO().save_checkpoint(state, tmp_path / "state")
    read = SafeCheckpointIO().load_checkpoint(tmp_path / "state")
    assert same(read, state)
    assert read["transposed"].stride() == weight.t().stride()  # a fused optimiser reads memory as the weight's lies


def test_what_would_need_a_pickle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match="Expected a training state of tensors and plain values, found a set in it; leave out"
    ):
        SafeCheckpointIO().save_checkpoint({"callbacks": {"x": {1, 2}}}, tmp_path / "state")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "state",
    [
        *('{"tensor": "9"}', '{"dict": [[1]]}', '{"a": 1, "b": 2}', '{"list": 3}', "[", '"text"'),
        '{"dict": [["weight", {"transposed": "0"}]]}',
    ],
)
def test_a_state_that_was_tampered_with(tmp_path: Path, state: str) -> None:
    save_file({"0": torch.ones(1, 1, 1)}, tmp_path / "state", metadata={"state": state})
    with pytest.raises(CheckpointError, match="found one that cannot be read"):
        SafeCheckpointIO().load_checkpoint(tmp_path / "state")
