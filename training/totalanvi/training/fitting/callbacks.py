"""What happens around the training step: the history that users read, the progress that they see, the early end."""

from __future__ import annotations

import signal
import sys
import threading
import time
from typing import Any

import lightning as L
import pandas as pd
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import EarlyStopping
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from totalanvi.training.errors import CheckpointError
from totalanvi.training.fitting.training_config import TrainingConfig

__all__ = ["EpochProgress", "History", "StartTogether", "StopEarly", "TermsAsBefore"]


class History(L.Callback):
    """Collects every metric once an epoch; part of the checkpoint, so that a resumed run continues it."""

    def __init__(self) -> None:
        self.values: dict[str, dict[int, float]] = {}
        self._before: dict[str, Any] = {}

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remember what earlier epochs have left behind: Lightning keeps a metric until there is another value."""
        self._before = dict(trainer.callback_metrics)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note the metrics of this epoch; one without validation has none of that."""
        for name, value in trainer.callback_metrics.items():
            if value is not self._before.get(name):
                self.values.setdefault(name, {})[trainer.current_epoch] = float(value)

    def frames(self) -> dict[str, pd.DataFrame]:
        """One frame a metric, indexed by epoch."""
        return {
            name: pd.DataFrame({name: list(by_epoch.values())}, index=pd.Index(list(by_epoch), name="epoch"))
            for name, by_epoch in self.values.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the history for the checkpoint."""
        return {"values": {name: {str(epoch): v for epoch, v in d.items()} for name, d in self.values.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the history of the interrupted run."""
        self.values = {name: {int(epoch): v for epoch, v in d.items()} for name, d in state_dict["values"].items()}


_PLAIN_EVERY = 30.0
_PLAIN_SHARE = 0.1


class EpochProgress(L.Callback):
    """One line that counts epochs and shows the ELBO, on standard error.

    Where there is no terminal to move it on, another line follows: every half minute or tenth of the epochs, whichever
    takes longer, and at the end.
    """

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._plain = False
        self._told = (0, 0.0)
        """Epochs done, and when that was, at the last plain line."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the line; of several processes, the first one does."""
        if not trainer.is_global_zero:
            return
        console = Console(stderr=True)
        if not (console.is_terminal or console.is_jupyter):
            self._plain = True
            self._told = (trainer.current_epoch, time.monotonic())
            return
        self._progress = Progress(
            TextColumn("Training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[elbo]}"),
            TimeRemainingColumn(),
            console=console,
        )
        self._progress.start()
        self._task = self._progress.add_task(
            "epochs", total=trainer.max_epochs, completed=trainer.current_epoch, elbo=""
        )

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Move the line on."""
        if self._progress is not None:
            self._progress.update(self._task, advance=1, elbo=_elbo(trainer))
        elif self._plain:
            done = trainer.current_epoch + 1
            before, when = self._told
            if time.monotonic() - when >= _PLAIN_EVERY and done - before >= _PLAIN_SHARE * (trainer.max_epochs or 0):
                self._tell(trainer, done)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the line as it is."""
        self._stop()
        if self._plain and self._told[0] < trainer.current_epoch:
            self._tell(trainer, trainer.current_epoch)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Give the terminal back."""
        self._stop()

    def _tell(self, trainer: L.Trainer, done: int) -> None:
        print(f"Training: {done}/{trainer.max_epochs} epochs, {_elbo(trainer)}", file=sys.stderr, flush=True)
        self._told = (done, time.monotonic())

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def _elbo(trainer: L.Trainer) -> str:
    metrics = trainer.callback_metrics
    shown = [
        f"{split} {float(metrics[f'elbo_{split}']):.1f}"
        for split in ("train", "validation")
        if f"elbo_{split}" in metrics
    ]
    return "ELBO loss: " + ", ".join(shown)


class StopEarly(EarlyStopping):
    """Ends the run once a metric no longer improves; it does not look before the epochs of warm-up are over."""

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(
            config.early_stopping_monitor,
            mode=config.early_stopping_mode,
            patience=config.early_stopping_patience,
            min_delta=config.early_stopping_min_delta,
            # Lightning looks where it validates; that is no place to wait for a metric of training.
            check_on_train_epoch_end=None if "validation" in config.early_stopping_monitor else True,
        )
        self.warmup_epochs = config.early_stopping_warmup_epochs

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look, where every epoch validates."""
        if trainer.current_epoch >= self.warmup_epochs:
            super().on_train_epoch_end(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look, where some epochs do not validate."""
        if trainer.current_epoch >= self.warmup_epochs:
            super().on_validation_end(trainer, pl_module)


class StartTogether(L.Callback):
    """Sees that all processes take up the same interrupted run, or none."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compare where they begin.

        Raises
        ------
        CheckpointError
            When they begin in different epochs, and would wait for one another in the end.
        """
        here = torch.tensor(trainer.current_epoch, device=pl_module.device)
        epochs: torch.Tensor = trainer.strategy.all_gather(here).reshape(-1)
        if epochs.min() < epochs.max():
            raise CheckpointError(
                "resume_folder: expected an interrupted run that every process finds, found that some begin in epoch "
                f"{int(epochs.max()) + 1} and others in epoch {int(epochs.min()) + 1}; name a folder that all machines "
                "share."
            )


class TermsAsBefore(L.Callback):
    """Leaves what a SIGTERM does to several processes as it was; under SLURM, Lightning may have to requeue the run.

    Lightning's handler sends word to all processes at once, and waits for ever where these are in the middle of a step.
    """

    def __init__(self) -> None:
        self._handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take Lightning's handler away again; it does so itself in the end."""
        environment = getattr(trainer.strategy, "cluster_environment", None)
        ours = trainer.world_size > 1 and not isinstance(environment, SLURMEnvironment)
        if ours and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._handler)
