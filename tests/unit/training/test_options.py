"""Arguments of ``train``: where they may be given, which of them wins, and which are refused by name."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
from pathlib import Path
from typing import Any

import lightning as L
import mudata as md
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from tests.support.reference_cells import FAST

from totalanvi.training import TOTALANVI, TOTALVI, ArgumentError, Augmentation
from totalanvi.training.checkpoints.checkpoint import read_checkpoint
from totalanvi.training.fitting.options import Options, Run, read_run
from totalanvi.training.fitting.resume import SafeCheckpointIO

TOTALVI_ARGUMENTS = (
    "max_epochs, lr, accelerator, devices, train_size, validation_size, shuffle_set_split, batch_size, early_stopping, "
    "check_val_every_n_epoch, reduce_lr_on_plateau, n_steps_kl_warmup, n_epochs_kl_warmup, adversarial_classifier, "
    "datasplitter_kwargs, plan_kwargs, external_indexing"
)
TOTALANVI_ARGUMENTS = (
    "max_epochs, n_samples_per_label, check_val_every_n_epoch, train_size, validation_size, shuffle_set_split, "
    "batch_size, accelerator, devices, adversarial_classifier, datasplitter_kwargs, plan_config, plan_kwargs"
)
SCVI_PLAN: dict[str, Any] = {
    "optimizer": "Adam",
    "optimizer_creator": None,
    "lr": 1e-3,
    "weight_decay": 1e-6,
    "eps": 0.01,
    "n_steps_kl_warmup": None,
    "n_epochs_kl_warmup": 400,
    "reduce_lr_on_plateau": False,
    "lr_factor": 0.6,
    "lr_patience": 30,
    "lr_threshold": 0.0,
    "lr_scheduler_metric": "elbo_validation",
    "lr_min": 0,
    "adversarial_classifier": False,
    "scale_adversarial_loss": "auto",
    "key_adversarial": "batch",
    "classification_ratio": 50,
    "pro_recons_weight": 1.0,
    "max_kl_weight": 1.0,
    "min_kl_weight": 0.0,
    "update_only_decoder": False,
    "compile": False,
    "compile_kwargs": None,
    "on_step": False,
    "on_epoch": True,
}
"""Every option of the training plans of scvi-tools, with its default."""

SCVI_TRAINER: dict[str, Any] = {
    "accelerator": None,
    "devices": None,
    "benchmark": True,
    "check_val_every_n_epoch": None,
    "max_epochs": 400,
    "default_root_dir": None,
    "enable_checkpointing": False,
    "checkpointing_monitor": "validation_loss",
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
    "early_stopping": False,
    "early_stopping_monitor": "elbo_validation",
    "early_stopping_min_delta": 0.0,
    "early_stopping_patience": 45,
    "early_stopping_warmup_epochs": 0,
    "early_stopping_mode": "min",
    "enable_progress_bar": True,
    "progress_bar_refresh_rate": 1,
    "simple_progress_bar": True,
    "logger": None,
    "log_every_n_steps": 10,
    "learning_rate_monitor": False,
    "log_save_dir": None,
}
"""Every option of the trainer of scvi-tools, with its default."""


class Configuration:
    """An object as scvi-tools has them for options."""

    def __init__(self, **options: Any):
        self.options = options

    def to_kwargs(self) -> dict[str, Any]:
        return self.options


def read(
    arguments: dict[str, Any] | None = None,
    options: Options | None = None,
    config: Options | None = None,
    knows_labels: bool = True,
    n_cells: int = 10_000,
) -> Run:
    defaults = {"seed": 5, "pro_recons_weight": 2.0}
    return read_run(arguments or {}, (options,), (config,), defaults, n_cells, knows_labels)


def small(kind: type[TOTALVI], mdata: md.MuData) -> TOTALVI:
    return kind(mdata, n_latent=4, n_hidden=8, empirical_protein_background_prior=False)


# Names and order


@pytest.mark.parametrize(("kind", "names"), [(TOTALVI, TOTALVI_ARGUMENTS), (TOTALANVI, TOTALANVI_ARGUMENTS)])
def test_arguments_are_in_the_order_that_users_know(kind: type, names: str) -> None:
    parameters = list(inspect.signature(kind.train).parameters.values())
    by_position = [p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert by_position == ["self", *names.split(", ")]
    every = {p.name for p in parameters}
    assert every >= {"lr", "external_indexing", "augmentation", "seed", "progress", "resume_folder", "trainer_config"}


def test_all_options_of_scvi_tools_are_taken() -> None:
    run = read({}, SCVI_PLAN | SCVI_TRAINER)
    for name, value in (SCVI_PLAN | SCVI_TRAINER).items():
        if hasattr(run.config, name) and value is not None:
            assert getattr(run.config, name) == value, name
    assert run.trainer["progress"] is True
    assert run.trainer["benchmark"] is True
    assert "checkpointing_monitor" not in run.trainer


# Which one wins


@pytest.mark.parametrize(
    ("arguments", "options", "config", "lr"),
    [
        ({}, None, None, 4e-3),
        ({"lr": None}, {}, {}, 4e-3),
        ({}, None, {"lr": 0.3}, 0.3),
        ({}, {"lr": 0.2}, {"lr": 0.3}, 0.2),
        ({"lr": 0.1}, {"lr": 0.2}, {"lr": 0.3}, 0.1),
        ({"lr": None}, {"lr": None}, Configuration(lr=0.3), 0.3),
        ({}, Configuration(lr=np.float32(0.5)), None, 0.5),
    ],
)
def test_arguments_win_over_dictionaries_and_these_over_configurations(
    arguments: dict[str, Any], options: Options, config: Options, lr: float
) -> None:
    assert read(arguments, options, config).config.lr == lr


def test_auto_leaves_the_device_to_the_dictionaries() -> None:
    run = read({"accelerator": "auto", "devices": "auto"}, None, {"accelerator": "cpu"})
    assert run.trainer["accelerator"] == "cpu"
    assert "devices" not in run.trainer
    assert read({"accelerator": "gpu"}, None, {"accelerator": "cpu"}).trainer["accelerator"] == "gpu"


def test_nothing_is_hidden_only_where_it_is_said() -> None:
    assert read({"augmentation": Augmentation(no_panel=0.1)}).config.augmentation == Augmentation(no_panel=0.1)
    assert read({"augmentation": None}, {"augmentation": None}).config.augmentation is None
    assert read({"augmentation": None}).config.augmentation == Augmentation()


@pytest.mark.parametrize(
    ("options", "epochs", "warm_up"),
    [
        ({}, 102, 50),
        ({"batch_size": 64}, 26, 13),
        ({"max_epochs": 30}, 30, 15),
        ({"max_epochs": 30, "n_epochs_kl_warmup": 10.0}, 30, 10.0),
        ({"max_epochs": 30, "n_epochs_kl_warmup": 0}, 30, 0),
        ({"max_epochs": 30, "n_steps_kl_warmup": 70}, 30, None),
    ],
)
def test_epochs_and_warm_up(options: dict[str, Any], epochs: int, warm_up: float | None) -> None:
    config = read({}, options).config
    assert (config.max_epochs, config.n_epochs_kl_warmup) == (epochs, warm_up)
    assert config.n_steps_kl_warmup == options.get("n_steps_kl_warmup")
    assert (config.seed, config.pro_recons_weight) == (5, 2.0)


def test_each_option_goes_where_it_belongs() -> None:
    callback = L.Callback()
    options = {"train_size": 0.5, "external_indexing": [[0]], "num_workers": 2, "drop_last": True}
    run = read({"validation_size": 0.1, "resume_folder": "here"}, options | {"callbacks": [callback], "precision": 32})
    assert run.split == {"train_size": 0.5, "external_indexing": [[0]], "validation_size": 0.1}
    assert run.config.drop_last
    bar = {"progress": True, "enable_progress_bar": False}
    others = {"num_workers": 2, "resume_folder": "here", "callbacks": [callback], "precision": 32}
    assert run.trainer == bar | others


@pytest.mark.parametrize(
    ("options", "line", "bar"),
    [
        ({}, True, False),
        ({"progress": False}, False, False),
        ({"enable_progress_bar": False}, False, False),
        ({"progress_bar_refresh_rate": 0}, False, False),
        ({"simple_progress_bar": False}, False, True),
        ({"simple_progress_bar": False, "progress": False}, False, False),
    ],
)
def test_progress(options: dict[str, Any], line: bool, bar: bool) -> None:
    assert read({}, options).trainer == {"progress": line, "enable_progress_bar": bar}


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"momentum": 1}, "Expected training options out of .*lr, .*, found momentum; leave these out"),
        ({"kl_weight": 0.5}, "found kl_weight; kl_weight: set max_kl_weight and min_kl_weight"),
        ({"datamodule": object()}, "found datamodule; datamodule: give the cells to the model"),
        ({"ckpt_path": "x"}, "ckpt_path: give resume_folder"),
        ({"gradient_clip_val": 1.0}, 'gradient_clip_val: give plan_kwargs={"gradient_clip": ...}'),
        ({"enable_checkpointing": True}, "enable_checkpointing: expected False, found True; give resume_folder"),
        ({"compile": True}, "compile: expected False, found True; leave it out"),
        ({"compile_kwargs": {"mode": "x"}}, "compile_kwargs: expected None, found {'mode': 'x'}"),
        ({"pin_memory": True}, "pin_memory: expected False, found True"),
        ({"on_step": True}, "on_step: expected False, found True"),
        ({"log_save_dir": "x"}, "log_save_dir: save\\(\\) keeps the history"),
        ({"lr": -1.0}, "lr: expected a number above 0, found -1.0"),
        (
            {"adversarial_classifier": torch.nn.Linear(1, 1)},
            "adversarial_classifier: expected True or False, found Lin",
        ),
        ([("lr", 1)], "Expected options in a dictionary, found a list"),
    ],
)
def test_options_without_meaning(options: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        read({}, options)


@pytest.mark.parametrize("option", ["n_samples_per_label", "classification_ratio"])
def test_totalvi_learns_no_labels(option: str) -> None:
    with pytest.raises(ArgumentError, match=f"{option}: expected a model with labels, found TOTALVI; leave it out"):
        read({}, {option: 10}, knows_labels=False)


# The models themselves


def test_totalvi_as_its_users_call_it(reference_mdata: md.MuData) -> None:
    model = small(TOTALVI, reference_mdata)
    model.train(
        2, 3e-3, "cpu", "auto", 0.8, 0.1, False, 64, True, 1, True, None, 20, True, {"num_workers": 0},
        {"pro_recons_weight": 0.3, "lr": 9.0}, None, enable_progress_bar=False, early_stopping_patience=7,
    )  # fmt: skip
    options = model._training["options"]
    told = {"max_epochs": 2, "lr": 3e-3, "batch_size": 64, "n_epochs_kl_warmup": 20, "adversarial_classifier": True}
    assert options.items() >= (told | {"pro_recons_weight": 0.3, "early_stopping_patience": 7}).items()
    assert options["augmentation"] == dataclasses.asdict(Augmentation())
    assert model.validation_indices.tolist() == list(range(40))
    assert model.train_indices.tolist() == list(range(40, 360))
    assert model.test_indices.tolist() == list(range(360, 400))


def test_totalanvi_as_its_users_call_it(reference_mdata: md.MuData) -> None:
    model = small(TOTALANVI, reference_mdata)
    stopped = []

    class Stop(L.Callback):
        def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
            stopped.append(trainer.current_epoch)

    model.train(
        2, 10, 2, 0.5, None, True, 64, "cpu", "auto", False, {"drop_last": True}, {"lr": 0.5},
        {"reduce_lr_on_plateau": True, "lr": 3e-3, "n_epochs_kl_warmup": 10.0, "classification_ratio": 1000.0},
        callbacks=[Stop()], enable_progress_bar=False,
    )  # fmt: skip
    told = {"n_samples_per_label": 10, "lr": 3e-3, "check_val_every_n_epoch": 2, "classification_ratio": 1000.0}
    assert model._training["options"].items() >= (told | {"reduce_lr_on_plateau": True, "drop_last": True}).items()
    assert stopped == [2]
    assert model.history["validation_accuracy"].index.tolist() == [1]
    # Forty targets at most, in three mini-batches of 64 cells.
    assert model.history["train_accuracy"].index.tolist() == [0, 1]


@pytest.mark.parametrize("kind", [TOTALVI, TOTALANVI])
def test_parts_from_outside(kind: type[TOTALVI], reference_mdata: md.MuData) -> None:
    parts = [np.arange(100, 300), np.arange(50), None]
    for arguments in ({"external_indexing": parts}, {"datasplitter_kwargs": {"external_indexing": parts}}):
        model = small(kind, reference_mdata)
        model.train(max_epochs=1, **arguments, **FAST)
        assert model.train_indices.tolist() == list(range(100, 300))
        assert model.validation_indices.tolist() == list(range(50))
        assert len(model.test_indices) == 0


def test_a_second_run_goes_on_with_the_history(reference_mdata: md.MuData) -> None:
    model = small(TOTALANVI, reference_mdata)
    model.train(max_epochs=2, check_val_every_n_epoch=2, **FAST)
    first = {name: frame.copy() for name, frame in model.history.items()}
    model.train(max_epochs=3, train_size=1.0, **FAST)
    assert model.history["elbo_train"].index.tolist() == [0, 1, 2, 3, 4]
    assert model.history["elbo_validation"].index.tolist() == [1]
    assert all(frame.index.name == "epoch" for frame in model.history.values())
    for name, frame in first.items():
        assert model.history[name].iloc[: len(frame)].equals(frame), name


@pytest.mark.parametrize("creator", [torch.optim.SGD, functools.partial(torch.optim.SGD, lr=0.001)])
def test_an_optimizer_of_the_users_has_a_name_in_the_checkpoint(
    reference_mdata: md.MuData, tmp_path: Path, creator: Any
) -> None:
    model = small(TOTALANVI, reference_mdata)
    model.train(max_epochs=1, plan_kwargs={"optimizer": "Custom", "optimizer_creator": creator}, **FAST)
    model.save(tmp_path / "checkpoint")
    options = read_checkpoint(tmp_path / "checkpoint").training["options"]
    assert options["optimizer_creator"] in ("SGD", "partial")
    assert json.loads(json.dumps(options)) == options


def test_loggers_and_checkpoints_of_lightning(reference_mdata: md.MuData, tmp_path: Path) -> None:
    keeper = ModelCheckpoint(dirpath=tmp_path / "kept", monitor="elbo_validation", save_top_k=1)
    logger = CSVLogger(tmp_path / "logs")
    small(TOTALVI, reference_mdata).train(max_epochs=2, callbacks=[keeper], logger=logger, **FAST)
    logged = (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()
    assert "elbo_validation" in logged[0]
    # Checkpoints of Lightning are no pickles either.
    (kept,) = (tmp_path / "kept").iterdir()
    assert "state_dict" in SafeCheckpointIO().load_checkpoint(kept)


@pytest.mark.parametrize("kind", [TOTALVI, TOTALANVI])
def test_no_epoch_leaves_a_model_that_counts_as_trained(
    reference_mdata: md.MuData, kind: type[TOTALVI], tmp_path: Path
) -> None:
    model = small(kind, reference_mdata)
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    model.train(max_epochs=0, **FAST)
    assert model.is_trained
    assert model.history == {}
    assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())
    assert len(model.validation_indices) == 40
    model.save(tmp_path / "saved")
    assert kind.load(tmp_path / "saved").is_trained


@pytest.mark.parametrize("kind", [TOTALVI, TOTALANVI])
def test_no_validation_where_lightning_is_to_leave_it_out(reference_mdata: md.MuData, kind: type[TOTALVI]) -> None:
    model = small(kind, reference_mdata)
    model.train(max_epochs=2, limit_val_batches=0, **FAST)
    assert "elbo_train" in model.history
    assert not [name for name in model.history if "validation" in name]
