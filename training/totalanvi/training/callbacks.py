"""What happens around the training step: the history that users read, and the progress that they see."""

from __future__ import annotations

from typing import Any

import lightning as L
import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["EpochProgress", "History"]


class History(L.Callback):
    """Collects every metric once an epoch; part of the checkpoint, so that a resumed run continues it."""

    def __init__(self) -> None:
        self.values: dict[str, dict[int, float]] = {}

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note the metrics of this epoch."""
        for name, value in trainer.callback_metrics.items():
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


class EpochProgress(L.Callback):
    """One line that counts epochs and shows the ELBO, on standard error."""

    def __init__(self) -> None:
        self._progress: Progress | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the line."""
        self._progress = Progress(
            TextColumn("Training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[elbo]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._progress.start()
        self._task = self._progress.add_task(
            "epochs", total=trainer.max_epochs, completed=trainer.current_epoch, elbo=""
        )

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Move the line on."""
        if self._progress is not None:
            metrics = trainer.callback_metrics
            shown = [
                f"{split} {float(metrics[f'elbo_{split}']):.1f}"
                for split in ("train", "validation")
                if f"elbo_{split}" in metrics
            ]
            self._progress.update(self._task, advance=1, elbo="ELBO loss: " + ", ".join(shown))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the line as it is."""
        self._stop()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Give the terminal back."""
        self._stop()

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
