"""Optimisers of the model and of the adversary, and the schedule that watches validation."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

import torch
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from totalanvi.training.errors import ArgumentError
from totalanvi.training.fitting.adversary import Adversary
from totalanvi.training.fitting.shared_adam import SharedAdam
from totalanvi.training.fitting.training_config import TrainingConfig
from totalanvi.training.network.vae import TotalVAE

__all__ = ["adversary_optimizer", "model_optimizer", "plateau_schedule", "trained_parameters"]

_OF_FEATURES = frozenset(("px_r", "py_r", "background_pro_alpha", "background_pro_log_beta"))
"""Dispersions and priors of the background: numbers of a feature's own, which no network makes. Efficiencies of batches
are none of them: where batches hold unlike cells, fast ones take differences between the cells for the batches'."""
_MOST_OF_FEATURES = 0.1
"""A step of a tenth, in logarithms, is enough."""

_ADVERSARY_EPS = 0.01
_ADVERSARY_LR = 1e-3


def trained_parameters(module: TotalVAE) -> list[dict[str, Any]]:
    """Parameters that train, in groups: those of which only some entries do come last, without weight decay.

    ``module.trained_parts`` names these (see `surgery`). Their gradient is zero where they are frozen, and a zero
    gradient moves nothing as long as no decay does.
    """
    partly_frozen = module.trained_parts
    trained = [(name, weight) for name, weight in module.named_parameters() if weight.requires_grad]
    whole = [weight for name, weight in trained if name not in partly_frozen]
    in_part = [weight for name, weight in trained if name in partly_frozen]
    groups: list[dict[str, Any]] = [{"params": whole}] if whole else []
    return [*groups, {"params": in_part, "weight_decay": 0.0}] if in_part else groups


def _with_rates(module: TotalVAE, groups: list[dict[str, Any]], config: TrainingConfig) -> list[dict[str, Any]]:
    """Part each group into weights of networks, which come first, and numbers of features, which learn faster.

    Adam moves a number by the learning rate at most, so that a dispersion that begins a factor of e off would take
    hundreds of steps to where it belongs; a layer's output is moved by all of its weights at once.
    """
    faster = max(config.lr, min(config.feature_lr_factor * config.lr, _MOST_OF_FEATURES))
    if faster == config.lr:
        return groups
    of_features = {id(weight) for name, weight in module.named_parameters() if name in _OF_FEATURES}
    parted: list[dict[str, Any]] = []
    for rate, wanted in ((config.lr, False), (faster, True)):
        for group in groups:
            weights = [weight for weight in group["params"] if (id(weight) in of_features) == wanted]
            parted += [{**group, "params": weights, "lr": rate}] if weights else []
    return parted


def model_optimizer(module: TotalVAE, config: TrainingConfig, beside: Executor | None = None) -> Optimizer:
    """Make the optimiser that ``config`` names for the parameters that train.

    Parameters
    ----------
    module, config
        The model, where it trains, and how.
    beside
        A thread that may do half of a step.

    Raises
    ------
    ArgumentError
        When ``optimizer_creator`` makes something else.
    """
    groups = trained_parameters(module)
    if config.optimizer_creator is None:
        kind = AdamW if config.optimizer == "AdamW" else Adam
        groups = _with_rates(module, groups, config)
        options: dict[str, Any] = {"lr": config.lr, "eps": config.eps, "weight_decay": config.weight_decay}
        if all(weight.device.type == "cpu" for group in groups for weight in group["params"]):
            return SharedAdam(groups, beside, decoupled_weight_decay=kind is AdamW, **options)
        return kind(groups, fused=True, **options)
    # A function of the user's expects parameters; it gets groups only where some need one of their own.
    plain = all("weight_decay" not in group for group in groups)
    made = config.optimizer_creator(groups[0]["params"] if plain else groups)
    if not isinstance(made, torch.optim.Optimizer):
        raise ArgumentError(
            f"optimizer_creator: expected a torch optimiser from it, found a {type(made).__name__}; return one."
        )
    return made


def adversary_optimizer(adversary: Adversary) -> Optimizer:
    """Adam with a rate of its own."""
    return Adam(adversary.parameters(), lr=_ADVERSARY_LR, eps=_ADVERSARY_EPS, fused=True)


def plateau_schedule(optimizer: Optimizer, config: TrainingConfig) -> ReduceLROnPlateau:
    """Lower the learning rate where a validation metric no longer falls."""
    return ReduceLROnPlateau(
        optimizer,
        factor=config.lr_factor,
        patience=config.lr_patience,
        threshold=config.lr_threshold,
        threshold_mode="abs",
        min_lr=config.lr_min,
    )
