"""Which runs have steps that a GPU can repeat by itself, and what Lightning has to be told of those."""

from __future__ import annotations

import lightning as L
import torch
from lightning.pytorch.utilities.model_helpers import is_overridden

from totalanvi.training.fitting.training_config import TrainingConfig
from totalanvi.training.network.vae import TotalVAE

__all__ = ["count_steps", "hindrances", "looks_into_steps"]

_IN_A_STEP = ("on_before_backward", "on_after_backward", "on_before_optimizer_step", "on_before_zero_grad")
"""Hooks of callbacks that are called in the middle of a step."""


def hindrances(device: torch.device, trainer: L.Trainer, module: TotalVAE, config: TrainingConfig) -> list[str]:
    """Say what keeps all that happens in a step from being recorded; nothing does where the list is empty.

    Parameters
    ----------
    device
        Where the model trains.
    trainer
        Of the run, which has begun.
    module
        The model. Surgery masks gradients with tensors of the CPU, and some models have shapes that follow the cells.
    config
        How it is trained. An optimiser of the user's own may do anything.
    """
    there = {
        "no GPU": device.type != "cuda",
        "several processes": trainer.world_size > 1,
        "another precision": trainer.precision != "32-true",
        "shapes that follow the cells": not module.has_fixed_shapes,
        "weights that train in part": bool(module.trained_parts),
        "an optimiser of the user's": config.optimizer_creator is not None,
        "a search for anomalies": torch.is_anomaly_enabled(),
        "a callback that looks into steps": any(map(looks_into_steps, trainer.callbacks)),  # type: ignore[attr-defined]
    }
    return [what for what, hinders in there.items() if hinders]


def count_steps(trainer: L.Trainer, n_optimizers: int) -> None:
    """Count the steps of optimisers that Lightning has not seen: its ``global_step``, and ``max_steps``, go by them."""
    counted = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
    for _ in range(n_optimizers):
        counted.increment_ready()
        counted.increment_completed()


def looks_into_steps(callback: L.Callback) -> bool:
    """Whether a callback is called in the middle of a step, the loss in hand for one."""
    return any(is_overridden(hook, callback, L.Callback) for hook in _IN_A_STEP)
