"""Run a training plan with Lightning, from scratch or from where it was interrupted."""

from __future__ import annotations

import gc
import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from totalanvi.training.checks import as_whole, require_flags
from totalanvi.training.data import Cells
from totalanvi.training.fitting.beside import computes_apart, thread_beside
from totalanvi.training.fitting.callbacks import EpochProgress, History, StartTogether, StopEarly, TermsAsBefore
from totalanvi.training.fitting.divergence import undone_if_diverged
from totalanvi.training.fitting.placement import placement
from totalanvi.training.fitting.plan import TrainingPlan
from totalanvi.training.fitting.split import Split
from totalanvi.training.fitting.together import together
from totalanvi.training.fitting.trainer import as_callbacks, make_trainer, resume_file_in
from totalanvi.training.fitting.training_config import TrainingConfig
from totalanvi.training.loaders import cell_loader, training_loader
from totalanvi.training.network.vae import TotalVAE
from totalanvi.training.ranks import Rank

__all__ = ["fit", "train_mode"]

_FROZEN_BY_PYTHON = 1000
"""Objects that may be frozen though nobody asked for it: Python 3.12 starts with 375. Whoever asks has thousands."""


def fit(
    module: TotalVAE,
    cells: Cells,
    split: Split,
    config: TrainingConfig,
    accelerator: str = "auto",
    devices: Any = "auto",
    num_nodes: int = 1,
    strategy: Any = "auto",
    progress: bool = True,
    resume_folder: str | Path | None = None,
    num_workers: int = 0,
    cuda_graphs: bool = True,
    callbacks: L.Callback | list[L.Callback] | None = None,
    **trainer_options: Any,
) -> tuple[dict[str, pd.DataFrame], int]:
    """Train ``module`` in place.

    Parameters
    ----------
    module, cells, split, config
        What to train, on which cells, and how. Parameters that require no gradient stay as they are.
    accelerator, devices, num_nodes, strategy
        Where to train; see `totalanvi.training.fitting.placement`.
    progress
        Show a line that counts epochs.
    resume_folder
        Where the state of the run is kept after each epoch, and taken up from when it is there; removed at the end.
    num_workers
        Processes that make mini-batches ahead of time.
    cuda_graphs
        Let a GPU repeat steps by itself, where it can; see `totalanvi.training.fitting.captured`.
    callbacks, trainer_options
        Further ones for Lightning's trainer.

    Returns
    -------
    history, n_epochs
        One frame a metric, and the epochs done.

    Raises
    ------
    ArgumentError
        For callbacks, a folder, options of Lightning's, devices or an optimiser of the user's own that are none.
    CheckpointError
        When what is in ``resume_folder`` cannot be read, or is a run of another model or with other options; when a
        callback has a state that cannot be kept there.
    DivergenceError
        When the loss is no number any more; the module is then what it was before.
    ProcessesError
        When another process of a run on several devices has ended.
    """
    num_workers = as_whole("num_workers", num_workers, 0)
    require_flags(cuda_graphs=cuda_graphs)
    if config.max_epochs == 0:
        module.eval()
        return {}, 0
    if not any(weight.requires_grad for weight in module.parameters()):
        warnings.warn("Nothing to train: every weight of the model is frozen; it stays as it is.", stacklevel=2)
        module.eval()
        return {}, 0
    history = History()
    every: list[L.Callback] = [history, StartTogether(), TermsAsBefore(), *as_callbacks(callbacks)]
    if progress:
        every.append(EpochProgress())
    validates = len(split.validation) > 0 and trainer_options.get("limit_val_batches") != 0
    if config.early_stopping and (validates or "validation" not in config.early_stopping_monitor):
        every.append(StopEarly(config))
    resume_file = None if resume_folder is None else resume_file_in(resume_folder)
    if resume_file is not None:
        every.append(_keep_last(resume_file))
    place = placement(accelerator, devices, num_nodes, strategy)
    with _quiet_lightning(), torch.random.fork_rng():
        torch.manual_seed(config.seed)
        plan = TrainingPlan(module, config, cuda_graphs)
        trainer = make_trainer(config, every, **place, **trainer_options)
        rank = Rank(trainer.global_rank, trainer.world_size)
        validation = cell_loader(cells, split.validation, config.batch_size, rank) if validates else None
        going_on = resume_file if resume_file is not None and resume_file.exists() else None
        with thread_beside(trainer, module) as (plan.beside, plan.late):
            training = training_loader(
                cells,
                split.train,
                config.batch_size,
                config.seed,
                config.n_samples_per_label,
                config.drop_last,
                num_workers,
                rank,
                trainer.strategy.root_device,
                plan.beside,
            )
            train_mode(module)
            with (
                module.gene_decoder.lying_by_features() if computes_apart(trainer, module) else nullcontext(),
                _interruptible(),
                _left_ready(module, trainer),
                undone_if_diverged(module),
                _old_objects_at_rest(),
                together(trainer),
            ):
                trainer.fit(plan, training, validation, ckpt_path=going_on)
    if resume_file is not None and trainer.is_global_zero:
        resume_file.unlink(missing_ok=True)
    return history.frames(), trainer.current_epoch


@contextmanager
def _left_ready(module: nn.Module, trainer: L.Trainer) -> Iterator[None]:
    """Leave the network in evaluation mode, and where it was trained: Lightning takes it to the CPU in the end."""
    try:
        yield
    finally:
        module.to(trainer.strategy.root_device)
        module.eval()


@contextmanager
def _old_objects_at_rest() -> Iterator[None]:
    """Keep Python from going through all that exists already, again and again, for garbage that steps may have made.

    They make so many small objects that this would take a twentieth of their time on a CPU.
    """
    if gc.get_freeze_count() > _FROZEN_BY_PYTHON:  # somebody else's, who may not want them thawed
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def train_mode(module: nn.Module) -> None:
    """Let dropout drop and batch norm move, but not the statistics of a batch norm whose own weights are frozen.

    Lightning keeps whatever mode it finds, and a model that was loaded or asked is in evaluation mode.
    """
    module.train()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d) and not any(weight.requires_grad for weight in part.parameters()):
            part.eval()


def _keep_last(file: Path) -> ModelCheckpoint:
    keeper = ModelCheckpoint(
        dirpath=file.parent,
        filename=file.stem,
        save_top_k=1,
        every_n_epochs=1,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    keeper.FILE_EXTENSION = file.suffix
    return keeper


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C be what it is elsewhere: Lightning would exit the process, and ignore the next one in a notebook."""
    listening = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as ending:
        # Any other, such as that of a process that is told to end, passes.
        if isinstance(ending.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    finally:
        if signal.getsignal(signal.SIGINT) is not listening:
            signal.signal(signal.SIGINT, listening)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning from telling users of a library which devices it sees and how many workers it would like."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning(\.|$)")
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*No positive samples|.*Sparse.*")
            warnings.filterwarnings("ignore", message=".*fork_rng")  # of more than one device
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
