"""Lightning's trainer, and what users may give it: its own complaints become ours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import Logger

from totalanvi.training.checks import as_names, as_path, as_whole, require_type
from totalanvi.training.errors import ArgumentError
from totalanvi.training.fitting.resume import SafeCheckpointIO
from totalanvi.training.fitting.training_config import TrainingConfig

__all__ = ["RESUME_FILE", "as_callbacks", "make_trainer", "resume_file_in"]

RESUME_FILE = "resume.safetensors"
"""Name of the file, in the folder for interrupted runs, that a run continues from."""


def make_trainer(config: TrainingConfig, callbacks: Sequence[L.Callback], **options: Any) -> L.Trainer:
    """Make a trainer that is quiet and writes no checkpoints, unless ``options`` say otherwise.

    Parameters
    ----------
    config
        How long to train, and how often to validate.
    callbacks
        What happens around the steps.
    options
        Arguments of Lightning's ``Trainer``.

    Raises
    ------
    ArgumentError
        For options that Lightning refuses, an accelerator that is not here for one.
    """
    logger = options.get("logger", False)
    for each in logger if isinstance(logger, list | tuple) else [logger]:
        require_type("logger", each, (bool, Logger), "give one of Lightning's loggers")
    if options.get("max_steps", -1) != -1:
        as_whole("max_steps", options["max_steps"], 1)
    plugins = options.get("plugins", [])
    try:
        trainer = L.Trainer(
            **{
                "max_epochs": config.max_epochs,
                "check_val_every_n_epoch": config.check_val_every_n_epoch,
                "logger": False,
                "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks),
                "enable_progress_bar": False,
                "enable_model_summary": False,
                "num_sanity_val_steps": 0,
                "use_distributed_sampler": False,  # our loaders know which part of a mini-batch is whose
                **options,
                "callbacks": list(callbacks),
                "plugins": [SafeCheckpointIO(), *(plugins if isinstance(plugins, list | tuple) else [plugins])],
            }
        )
        # As many processes as srun or torchrun has started; Lightning would look only once it fits.
        if (environment := getattr(trainer.strategy, "cluster_environment", None)) is not None:
            environment.validate_settings(num_devices=trainer.num_devices, num_nodes=trainer.num_nodes)
        return trainer
    except (AttributeError, MisconfigurationException, RuntimeError, TypeError, ValueError) as error:
        given = ", ".join(f"{name}={value!r}" for name, value in options.items())
        raise ArgumentError(
            f"Expected training options that Lightning's Trainer takes on this machine, found that it refuses one of "
            f"{given} ({' '.join(str(error).split())}); mend that one, or leave it out."
        ) from error


def as_callbacks(callbacks: L.Callback | Sequence[L.Callback] | None) -> list[L.Callback]:
    """Return the callbacks of a user as a list.

    Raises
    ------
    ArgumentError
        For what are none of Lightning's.
    """
    if callbacks is None or isinstance(callbacks, L.Callback):
        return [] if callbacks is None else [callbacks]
    given = as_names("callbacks", callbacks, "callbacks")
    for callback in given:
        require_type("callbacks", callback, L.Callback, "give callbacks of Lightning's")
    return given


def resume_file_in(folder: str | Path) -> Path:
    """Return the file, in a folder that is made if need be, that a run is kept in and continues from.

    Raises
    ------
    ArgumentError
        When there is no folder, and none can be made.
    """
    path = as_path("resume_folder", folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError(
            f"resume_folder: expected a folder, or a name for one that can be made, found {path} ({error.strerror}); "
            "choose another."
        ) from error
    return path / RESUME_FILE
