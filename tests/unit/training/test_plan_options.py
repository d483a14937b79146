"""Options of training plans and trainers of scvi-tools, and what they do here."""

from __future__ import annotations

from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from tests.support.reference_cells import draw_cells
from tests.support.tiny_model import N_GENES, N_PROTEINS, tiny_model

from totalanvi.training.data import UNLABELLED, Cells
from totalanvi.training.errors import ArgumentError
from totalanvi.training.fitting.fit import fit
from totalanvi.training.fitting.optimizers import model_optimizer
from totalanvi.training.fitting.split import split_cells
from totalanvi.training.fitting.training_config import TrainingConfig
from totalanvi.training.network.vae import Dimensions, TotalVAE

N_CELLS = 40


def cells(**options: Any) -> Cells:
    return draw_cells(n_cells=N_CELLS, n_genes=N_GENES, n_proteins=N_PROTEINS, **options)


def run(
    model: TotalVAE,
    data: Cells | None = None,
    callbacks: list[L.Callback] | None = None,
    trainer: dict[str, Any] | None = None,
    train_size: float = 0.8,
    **options: Any,
) -> dict[str, dict[int, float]]:
    """Train; the history, by metric and epoch."""
    config = TrainingConfig(**{"max_epochs": 1, "batch_size": N_CELLS, "augmentation": None, **options})
    split = split_cells(N_CELLS, train_size)
    data = cells() if data is None else data
    fast = {"accelerator": "cpu", "progress": False, "callbacks": callbacks}
    history, _ = fit(model, data, split, config, **fast, **(trainer or {}))
    return {name: frame[name].to_dict() for name, frame in history.items()}


class Steps(L.Callback):
    """Notes what each step finds."""

    def __init__(self) -> None:
        self.optimizers: list[torch.optim.Optimizer] = []
        self.learning_rate: list[float] = []
        self.batches: list[Any] = []

    def on_train_batch_start(self, trainer: L.Trainer, plan: Any, batch: Any, batch_idx: int) -> None:
        self.optimizers = trainer.optimizers
        self.learning_rate.append(trainer.optimizers[0].param_groups[0]["lr"])
        self.batches.append(batch)


# Optimisers


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_optimizers_by_name(name: str) -> None:
    steps = Steps()
    history = run(tiny_model(), None, [steps], optimizer=name, lr=0.007, eps=0.02, weight_decay=0.3)
    (optimizer,) = steps.optimizers
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.param_groups[0]["decoupled_weight_decay"] == (name == "AdamW")
    assert {key: optimizer.param_groups[0][key] for key in ("eps", "weight_decay")} == {
        "eps": 0.02,
        "weight_decay": 0.3,
    }
    assert history[f"lr-{name}"] == {0: pytest.approx(0.007)}


@pytest.mark.parametrize(
    ("lr", "factor", "faster"), [(0.004, 10.0, 0.04), (0.02, 10.0, 0.1), (0.004, 1.0, 0.004), (0.2, 10.0, 0.2)]
)
def test_numbers_of_features_learn_faster(lr: float, factor: float, faster: float) -> None:
    module = tiny_model(3)
    optimizer = model_optimizer(module, TrainingConfig(lr=lr, feature_lr_factor=factor))
    rates = {id(weight): group["lr"] for group in optimizer.param_groups for weight in group["params"]}
    of_features = [module.px_r, module.py_r, module.background_pro_alpha, module.background_pro_log_beta]
    assert [rates.pop(id(weight)) for weight in of_features] == pytest.approx([faster] * 4)
    assert set(rates.values()) == {lr}
    assert len(rates) + 4 == sum(weight.requires_grad for weight in module.parameters())
    assert optimizer.param_groups[0]["lr"] == lr  # which the history tells


def test_numbers_of_features_cool_down_with_the_others() -> None:
    rates: list[float] = []

    class Ratio(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
            slow, fast = (group["lr"] for group in trainer.optimizers[0].param_groups)
            rates.append(fast / slow)

    run(tiny_model(), None, [Ratio()], max_epochs=5, feature_lr_factor=8.0)
    assert rates == pytest.approx([8.0] * len(rates))
    assert len(rates) >= 5


def test_an_optimizer_of_the_users() -> None:
    steps = Steps()
    model = tiny_model()
    given: list[Any] = []

    def creator(parameters: Any) -> torch.optim.Optimizer:
        given.extend(parameters)
        return torch.optim.SGD(given, lr=0.001)

    history = run(model, None, [steps], optimizer="Custom", optimizer_creator=creator, reduce_lr_on_plateau=False)
    assert all(one is other for one, other in zip(given, model.parameters(), strict=True))
    assert history["lr-SGD"] == {0: pytest.approx(0.001)}


def test_what_is_no_optimizer() -> None:
    with pytest.raises(ArgumentError, match="optimizer_creator: expected a torch optimiser from it, found a list"):
        run(tiny_model(), optimizer="Custom", optimizer_creator=list)


# Weights


def test_the_divergences_may_begin_with_some_weight() -> None:
    options = {"max_epochs": 4, "n_epochs_kl_warmup": 2.0, "min_kl_weight": 0.2, "max_kl_weight": 0.8}
    history = run(tiny_model(), **options)
    assert history["kl_weight"] == pytest.approx({0: 0.2, 1: 0.5, 2: 0.8, 3: 0.8})
    first = run(tiny_model(), **options | {"max_epochs": 1})
    warming_up = first["kl_local_train"][0] + first["efficiency_penalty_train"][0]
    expected = first["reconstruction_loss_train"][0] + 0.2 * warming_up
    assert first["train_loss"][0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("scale", "weights"), [("auto", [1.0, 0.5, 0.0]), (0.3, [0.3, 0.3, 0.3]), (0.0, [0.0] * 3)])
def test_the_weight_of_fooling_the_adversary(scale: Any, weights: list[float]) -> None:
    adversary = {"adversarial_classifier": True, "scale_adversarial_loss": scale, "n_epochs_kl_warmup": 2}
    history = run(tiny_model(), max_epochs=3, **adversary)
    for epoch, weight in enumerate(weights):
        warming_up = history["kl_local_train"][epoch] + history["efficiency_penalty_train"][epoch]
        bound = history["reconstruction_loss_train"][epoch] + history["kl_weight"][epoch] * warming_up
        fooling = history.get("adversarial_loss", {}).get(epoch, 0.0)
        assert (fooling > 0) == (weight > 0)
        assert history["train_loss"][epoch] == pytest.approx(bound + weight * fooling, rel=1e-5)


@pytest.mark.parametrize(("key", "n_origins"), [("batch", 2), ("panel", 3)])
def test_the_adversary_tells_batches_or_panels_apart(key: str, n_origins: int) -> None:
    data = cells()
    data = Cells(**{**data.__dict__, "panel": np.arange(N_CELLS) % 3})
    model = TotalVAE(Dimensions(N_GENES, N_PROTEINS, n_batches=2, n_panels=3), tiny_model().config)

    told: list[torch.Tensor] = []

    class Listener(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, plan: Any, batch: Any, batch_idx: int) -> None:
            real = plan.adversary.loss
            plan.adversary.loss = lambda latent, origin, fool: told.append(origin) or real(latent, origin, fool)
            self.n_origins, self.expected = plan.adversary.n_origins, getattr(batch, key)

    listener = Listener()
    run(model, data, [listener], adversarial_classifier=True, key_adversarial=key, n_epochs_kl_warmup=3)
    assert listener.n_origins == n_origins
    assert len(told) == 2
    assert all(torch.equal(origin, listener.expected) for origin in told)


# Labels


def test_the_classification_loss_counts_some_cells_of_each_label() -> None:
    data = cells(unlabelled=0.1)
    steps = Steps()
    options = {"classification_ratio": 7.0, "max_epochs": 2}
    few = run(tiny_model(3), data, [steps], n_samples_per_label=2, **options)
    every = run(tiny_model(3), data, **options)
    for batch in steps.batches:
        assert torch.bincount(batch.target[batch.target != UNLABELLED]).tolist() == [2, 2, 2]
    bound = few["elbo_train"][0] + few["efficiency_penalty_train"][0]
    assert few["train_loss"][0] == pytest.approx(bound + 7.0 * few["train_classification_loss"][0])
    # The ELBO sees all cells, the scores only those that count; validation is as it was.
    assert few["elbo_train"][0] == pytest.approx(every["elbo_train"][0], rel=1e-5)
    assert few["train_classification_loss"][0] != pytest.approx(every["train_classification_loss"][0], rel=1e-3)
    assert (6 * few["train_accuracy"][0]) % 1 == pytest.approx(0.0, abs=1e-4)
    bound = few["elbo_validation"][0] + few["efficiency_penalty_validation"][0]
    assert few["validation_loss"][0] == pytest.approx(bound + 7.0 * few["validation_classification_loss"][0], rel=1e-5)


# Validation


def test_history_has_the_keys_that_users_know() -> None:
    both = {"elbo", "reconstruction_loss", "kl_local", "kl_global", "efficiency_penalty"}
    scores = {"loss", "classification_loss", "accuracy", "f1_score", "calibration_error"}
    history = run(tiny_model(3), adversarial_classifier=True, n_epochs_kl_warmup=2)
    for split in ("train", "validation"):
        assert {f"{name}_{split}" for name in both} | {f"{split}_{name}" for name in scores} <= history.keys()
        assert history[f"kl_global_{split}"] == {0: 0.0}
    assert {"kl_weight", "lr-Adam", "adversarial_loss"} <= history.keys()
    assert not {name for name in run(tiny_model()) if "classification" in name or "f1" in name}


def test_some_epochs_do_not_validate() -> None:
    history = run(tiny_model(3), max_epochs=5, check_val_every_n_epoch=2, lr_patience=0, early_stopping_patience=9)
    for name, values in history.items():
        assert list(values) == ([1, 3] if "validation" in name else [0, 1, 2, 3, 4]), name
    assert len(set(history["elbo_validation"].values())) == 2


def test_the_plateau_schedule_counts_validations() -> None:
    """Nothing falls by a million: every validation after the first one lowers the rate."""
    steps = Steps()
    plateau = {"lr_patience": 0, "lr_factor": 0.5, "lr_threshold": 1e6, "cool_down": 0.0, "lr": 0.008}
    run(tiny_model(), None, [steps], max_epochs=6, check_val_every_n_epoch=2, **plateau)
    assert steps.learning_rate == pytest.approx([0.008] * 4 + [0.004] * 2)


@pytest.mark.parametrize("metric", ["elbo_validation", "reconstruction_loss_validation", "kl_local_validation"])
def test_the_plateau_schedule_watches_what_it_is_told_to(metric: str) -> None:
    steps = Steps()
    plateau = {"lr": 1.0, "lr_factor": 0.5, "lr_patience": 0, "lr_scheduler_metric": metric, "cool_down": 0.0}
    history = run(tiny_model(), None, [steps], max_epochs=12, **plateau)
    expected, best = [1.0], np.inf
    for value in list(history[metric].values())[:-1]:
        expected.append(expected[-1] * (1.0 if value < best else 0.5))
        best = min(best, value)
    assert steps.learning_rate == pytest.approx(expected)


def test_early_stopping_watches_what_it_is_told_to() -> None:
    watch = {"early_stopping_monitor": "validation_accuracy", "early_stopping_mode": "max"}
    history = run(tiny_model(3), max_epochs=40, early_stopping_patience=3, **watch)
    accuracy = list(history["validation_accuracy"].values())
    assert len(accuracy) < 40
    assert int(np.argmax(accuracy)) == len(accuracy) - 4


@pytest.mark.parametrize(
    ("options", "n_epochs"),
    [
        ({}, 3),
        ({"early_stopping_warmup_epochs": 4}, 7),
        ({"check_val_every_n_epoch": 2}, 6),
        ({"check_val_every_n_epoch": 2, "early_stopping_warmup_epochs": 3}, 8),
        ({"early_stopping_monitor": "elbo_train", "train_size": 1.0}, 3),
        ({"early_stopping_monitor": "elbo_train", "check_val_every_n_epoch": 5}, 3),
        ({"train_size": 1.0}, 20),
        ({"early_stopping": False}, 20),
    ],
)
def test_when_early_stopping_looks(options: dict[str, Any], n_epochs: int) -> None:
    """Nothing falls by a million: it stops two looks after the first one."""
    stop = {"early_stopping_min_delta": 1e6, "early_stopping_patience": 2, "max_epochs": 20}
    assert len(run(tiny_model(), **stop | options)["elbo_train"]) == n_epochs


# Lightning's own


def test_epochs_that_lightning_cuts_short_are_in_the_history() -> None:
    steps = Steps()
    history = run(tiny_model(), None, [steps], {"limit_train_batches": 2}, batch_size=8, max_epochs=2)
    assert len(steps.batches) == 4
    assert list(history["elbo_train"]) == [0, 1]


def test_a_look_at_validation_before_training_changes_nothing() -> None:
    options = {"max_epochs": 3, "check_val_every_n_epoch": 2}
    plain, looked = (run(tiny_model(3), trainer={"num_sanity_val_steps": n}, **options) for n in (0, 1))
    assert plain.keys() == looked.keys()
    assert list(looked["elbo_validation"]) == [1]
