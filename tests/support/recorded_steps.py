"""Training whose steps go through records, on any device: a record does the work anew where nothing can be recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L

from totalanvi.training.fitting.captured import CapturedSteps, Recorder

__all__ = ["N_CELLS", "OPTIONS", "Again", "Recorded"]

N_CELLS = 75
OPTIONS: dict[str, Any] = {
    "max_epochs": 4,
    "batch_size": 16,  # 68 cells train: the last mini-batch has 4
    "adversarial_classifier": True,
    "n_steps_kl_warmup": 12,  # the adversary rests from the middle of the third epoch on
    "lr_patience": 0,
}
"""Of runs whose steps are of four kinds: mini-batches of two sizes, with the adversary and without."""


class Again:
    """Does the work again where a GPU would repeat it: all but CUDA's part of recorded steps."""

    def __init__(self) -> None:
        self.warmed_up = 0
        self.recorded = 0
        self.replayed = 0

    def warm_up(self, work: Callable[[], None]) -> None:
        self.warmed_up += 1
        work()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            work()

        return replay


class Recorded(L.Callback):
    """Lets the steps of a run go through records."""

    def __init__(self, recorder: Recorder):
        self.recorder = recorder

    def on_train_start(self, trainer: L.Trainer, plan: Any) -> None:
        plan._captured = CapturedSteps(plan.step, trainer.optimizers, self.recorder)
