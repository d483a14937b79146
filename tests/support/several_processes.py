"""A program that several processes run: training without any chance, so that they do what one does alone."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from safetensors.torch import save_file
from tests.support.reference_cells import draw_cells
from tests.support.tiny_model import N_GENES, N_PROTEINS, tiny_model
from torch import Tensor, nn

from totalanvi.training.fitting.fit import fit
from totalanvi.training.fitting.split import split_cells
from totalanvi.training.fitting.training_config import TrainingConfig
from totalanvi.training.ranks import is_first_process

__all__ = ["PowerCut", "train"]

N_CELLS = 75
CONFIG = TrainingConfig(
    max_epochs=4,
    batch_size=16,  # 68 cells train: the last mini-batch has 4
    n_epochs_kl_warmup=2,  # after it, the adversary has no weight
    adversarial_classifier=True,
    n_samples_per_label=5,
    augmentation=None,
    lr_patience=0,
)


class PowerCut(L.Callback):
    """Ends a run in the middle of an epoch; the first of several processes is slow to notice, as on busy cores."""

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        if trainer.current_epoch == 2:
            raise RuntimeError("power cut")

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        if trainer.world_size > 1 and is_first_process():
            time.sleep(3.5)


class _Steady(L.Callback):
    """Keeps the adversary from dropping anything, and from looking at the statistics of a process' own cells."""

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        pl_module.adversary.eval()


@contextmanager
def _without_chance() -> Iterator[None]:
    drawn, torch.randn_like = torch.randn_like, torch.zeros_like
    try:
        yield
    finally:
        torch.randn_like = drawn


def train(
    n_devices: int, resume_folder: Path | None = None, *callbacks: L.Callback
) -> tuple[dict[str, Tensor], dict[str, list[float]]]:
    """Weights and history of a small model."""
    cells = draw_cells(n_cells=N_CELLS, n_genes=N_GENES, n_proteins=N_PROTEINS)
    model = tiny_model(3)
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    with _without_chance():
        history, _ = fit(
            model,
            cells,
            split_cells(N_CELLS),
            CONFIG,
            accelerator="cpu",
            devices=n_devices,
            progress=False,
            resume_folder=resume_folder,
            callbacks=[_Steady(), *callbacks],
        )
    weights = {name: weight.contiguous() for name, weight in model.state_dict().items()}
    return weights, {name: frame[name].tolist() for name, frame in history.items()}


def main(folder: Path) -> None:
    """Train, take up what one process has begun, and leave something to one process, all in two."""
    weights, history = train(2)
    resumed, _ = train(2, folder / "begun")
    if is_first_process():
        save_file(weights, folder / "trained.safetensors")
        save_file(resumed, folder / "resumed.safetensors")
        (folder / "history.json").write_text(json.dumps(history))
    train(2, folder / "left", PowerCut())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
