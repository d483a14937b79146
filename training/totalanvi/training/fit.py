"""Run a training plan with Lightning, from scratch or from where it was interrupted."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from totalanvi.training.callbacks import EpochProgress, History
from totalanvi.training.data import Cells
from totalanvi.training.loaders import cell_loader
from totalanvi.training.plan import TrainingPlan
from totalanvi.training.resume import SafeCheckpointIO
from totalanvi.training.split import Split
from totalanvi.training.training_config import TrainingConfig
from totalanvi.training.vae import TotalVAE

__all__ = ["RESUME_FILE", "fit"]

RESUME_FILE = "resume.safetensors"
"""Name of the file, in the folder for interrupted runs, that a run continues from."""


def fit(
    module: TotalVAE,
    cells: Cells,
    split: Split,
    config: TrainingConfig,
    accelerator: str = "auto",
    devices: Any = "auto",
    progress: bool = True,
    resume_folder: Path | None = None,
    callbacks: list[L.Callback] | None = None,
    **trainer_options: Any,
) -> tuple[dict[str, pd.DataFrame], int]:
    """Train ``module`` in place.

    Parameters
    ----------
    module, cells, split, config
        What to train, on which cells, and how.
    accelerator, devices
        As Lightning takes them.
    progress
        Show a line that counts epochs.
    resume_folder
        Where the state of the run is kept after each epoch, and taken up from when it is there; removed at the end.
    callbacks, trainer_options
        Further ones for Lightning's trainer.

    Returns
    -------
    history, n_epochs
        One frame a metric, and the epochs done.
    """
    history = History()
    every: list[L.Callback] = [history, *(callbacks or [])]
    if progress:
        every.append(EpochProgress())
    validates = len(split.validation) > 0
    if config.early_stopping and validates:
        every.append(EarlyStopping("elbo_validation", patience=config.early_stopping_patience))
    plugins, resume_from = [], None
    if resume_folder is not None:
        plugins.append(SafeCheckpointIO())
        every.append(_keep_last(resume_folder))
        resume_from = resume_folder / RESUME_FILE if (resume_folder / RESUME_FILE).exists() else None
    with _quiet_lightning(), torch.random.fork_rng():
        torch.manual_seed(config.seed)
        plan = TrainingPlan(module, config)
        trainer = L.Trainer(
            **{
                "accelerator": accelerator,
                "devices": devices,
                "max_epochs": config.max_epochs,
                "callbacks": every,
                "plugins": plugins or None,
                "logger": False,
                "enable_checkpointing": resume_folder is not None,
                "enable_progress_bar": False,
                "enable_model_summary": False,
                "num_sanity_val_steps": 0,
                **trainer_options,
            }
        )
        with _interruptible(trainer):
            trainer.fit(
                plan,
                cell_loader(cells, split.train, config.batch_size, shuffle_seed=config.seed),
                cell_loader(cells, split.validation, config.batch_size) if validates else None,
                ckpt_path=resume_from,
            )
    if resume_folder is not None:
        (resume_folder / RESUME_FILE).unlink(missing_ok=True)
    module.eval()
    return history.frames(), trainer.current_epoch


def _keep_last(folder: Path) -> ModelCheckpoint:
    name = Path(RESUME_FILE)
    keeper = ModelCheckpoint(
        dirpath=folder,
        filename=name.stem,
        save_top_k=1,
        every_n_epochs=1,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    keeper.FILE_EXTENSION = name.suffix
    return keeper


@contextmanager
def _interruptible(trainer: L.Trainer) -> Iterator[None]:
    """Let Ctrl-C be what it is elsewhere: Lightning would exit the process, and ignore the next one in a notebook."""
    listening = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise
    finally:
        if signal.getsignal(signal.SIGINT) is not listening:
            signal.signal(signal.SIGINT, listening)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning from telling users of a library which devices it sees and how many workers it would like."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning(\.|$)")
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*No positive samples|.*Sparse.*")
            yield
    finally:
        logger.setLevel(level)
