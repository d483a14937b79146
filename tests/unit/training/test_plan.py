"""The training step: what its loss is made of, when its weights apply, and what its schedules do."""

from __future__ import annotations

import gc
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from tests.support.reference_cells import draw_cells
from tests.support.tiny_model import N_GENES, N_PROTEINS, tiny_model

from totalanvi.training.data import Cells
from totalanvi.training.fitting.adversary import Adversary
from totalanvi.training.fitting.fit import fit
from totalanvi.training.fitting.metrics import classification_loss
from totalanvi.training.fitting.split import split_cells
from totalanvi.training.fitting.training_config import TrainingConfig
from totalanvi.training.network.augmentation import Augmentation
from totalanvi.training.network.inputs import EncoderInputs, hide
from totalanvi.training.network.vae import TotalVAE

N_CELLS = 40


def cells(**options: Any) -> Cells:
    return draw_cells(n_cells=N_CELLS, n_genes=N_GENES, n_proteins=N_PROTEINS, **options)


def run(model: TotalVAE, data: Cells, callbacks: list[L.Callback] | None = None, **options: Any) -> dict[str, Any]:
    """Train on all cells but those that validate; the history."""
    config = TrainingConfig(**{"max_epochs": 1, "batch_size": N_CELLS, "augmentation": None, **options})
    split = split_cells(N_CELLS, options.pop("train_size", 0.8))
    history, _ = fit(model, data, split, config, accelerator="cpu", progress=False, callbacks=callbacks)
    return {name: frame[name].tolist() for name, frame in history.items()}


class Steps(L.Callback):
    """Notes, before each step, the warm-up and the learning rate, and after it whether the adversary moved."""

    def __init__(self) -> None:
        self.warm_up: list[float] = []
        self.learning_rate: list[float] = []
        self.adversary: list[bool] = []
        self._before: list[torch.Tensor] = []

    def on_train_batch_start(self, trainer: L.Trainer, plan: Any, *args: Any) -> None:
        self.warm_up.append(plan.warm_up)
        self.learning_rate.append(trainer.optimizers[0].param_groups[0]["lr"])
        self._before = [] if plan.adversary is None else [p.detach().clone() for p in plan.adversary.parameters()]

    def on_train_batch_end(self, trainer: L.Trainer, plan: Any, *args: Any) -> None:
        if plan.adversary is not None:
            pairs = zip(self._before, plan.adversary.parameters(), strict=True)
            self.adversary.append(any(not torch.equal(one, other) for one, other in pairs))


# What the loss is made of


@pytest.mark.parametrize("alpha", [0.0, 7.0])
def test_the_loss_is_the_elbo_and_alpha_times_the_cross_entropy(alpha: float) -> None:
    history = run(tiny_model(3), cells(), classification_ratio=alpha)
    elbo, penalty = history["elbo_train"][0], history["efficiency_penalty_train"][0]
    expected = elbo + penalty + alpha * history["train_classification_loss"][0]
    assert history["train_loss"][0] == pytest.approx(expected, rel=1e-5)


def test_weights_of_the_parts() -> None:
    history = run(tiny_model(), cells(), max_kl_weight=0.5, pro_recons_weight=3.0)
    gene, protein = history["reconstruction_loss_gene_train"][0], history["reconstruction_loss_protein_train"][0]
    assert history["reconstruction_loss_train"][0] == pytest.approx(gene + protein)
    warming_up = history["kl_local_train"][0] + history["efficiency_penalty_train"][0]
    expected = gene + 3.0 * protein + 0.5 * warming_up
    assert history["train_loss"][0] == pytest.approx(expected, rel=1e-5)
    assert history["kl_weight"] == [0.5]
    # The ELBO that is reported has no weights.
    assert history["elbo_train"][0] == pytest.approx(gene + protein + history["kl_local_train"][0], rel=1e-5)


def test_proteins_may_warm_up_too() -> None:
    history = run(tiny_model(), cells(), warm_up_proteins=True, n_epochs_kl_warmup=5)
    assert history["train_loss"][0] == pytest.approx(history["reconstruction_loss_gene_train"][0], rel=1e-5)


def test_proteins_warm_up_in_the_hidden_view_too() -> None:
    def first_loss(weight: float) -> float:
        view = Augmentation(no_panel=1.0, part_panel=0.0, unknown_batch=0.0)
        options = {"warm_up_proteins": True, "n_epochs_kl_warmup": 5, "pro_recons_weight": weight}
        return run(tiny_model(), cells(), augmentation=view, **options)["train_loss"][0]

    # The weight of the divergences is 0 in the first epoch, and so is that of the proteins, whatever it grows to.
    assert first_loss(1.0) == pytest.approx(first_loss(50.0), rel=1e-5)


def test_a_run_that_fails_leaves_the_model_ready_to_answer() -> None:
    class Fail(L.Callback):
        def on_train_batch_end(self, *args: object) -> None:
            raise RuntimeError("failed")

    model = tiny_model()
    with pytest.raises(RuntimeError, match="failed"):
        run(model, cells(), callbacks=[Fail()])
    assert not model.training


def test_a_run_leaves_the_garbage_collector_as_it_was() -> None:
    def frozen_in_and_after_a_run() -> tuple[bool, int]:
        during: list[int] = []
        look = L.pytorch.callbacks.LambdaCallback(on_train_start=lambda *_: during.append(gc.get_freeze_count()))
        run(tiny_model(), cells(), [look], max_epochs=1)
        return during[0] > 0, gc.get_freeze_count()

    assert frozen_in_and_after_a_run() == (True, 0)
    gc.freeze()  # as one does before a fork
    try:
        assert frozen_in_and_after_a_run()[1] > 0
    finally:
        gc.unfreeze()


def test_the_hidden_view_adds_to_the_loss() -> None:
    nothing = Augmentation(no_panel=0.0, part_panel=0.0, unknown_batch=0.0)
    for labels in (0, 3):
        plain, seen = (run(tiny_model(labels), cells(), augmentation=view) for view in (None, nothing))
        assert seen["train_loss"][0] > plain["train_loss"][0] + 1.0
        # What is reported is the first view's; only the draws are others.
        assert seen["elbo_train"][0] == pytest.approx(plain["elbo_train"][0], rel=0.01)


def test_totalvi_reports_nothing_about_labels() -> None:
    history = run(tiny_model(), cells())
    assert not [name for name in history if "classification" in name or "accuracy" in name or "f1" in name]


def test_cells_without_labels_are_no_trouble() -> None:
    history = run(tiny_model(3), cells(unlabelled=1.0), batch_size=8)
    assert np.isfinite(history["elbo_train"][0])
    assert "train_classification_loss" not in history
    assert "validation_accuracy" not in history


# Warm-up and the adversary


@pytest.mark.parametrize("adversarial_classifier", [False, True])
def test_steps_of_warm_up_are_mini_batches(adversarial_classifier: bool) -> None:
    steps = Steps()
    run(
        tiny_model(),
        cells(),
        [steps],
        batch_size=8,
        max_epochs=2,
        n_steps_kl_warmup=5,
        adversarial_classifier=adversarial_classifier,
    )
    assert steps.warm_up == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0])
    if adversarial_classifier:
        assert steps.adversary == [True] * 5 + [False] * 3


def test_epochs_of_warm_up() -> None:
    steps = Steps()
    history = run(tiny_model(), cells(), [steps], batch_size=16, max_epochs=4, n_epochs_kl_warmup=3, max_kl_weight=0.9)
    assert steps.warm_up == pytest.approx([0.0, 0.0, 1 / 3, 1 / 3, 2 / 3, 2 / 3, 1.0, 1.0])
    assert history["kl_weight"] == pytest.approx([0.0, 0.3, 0.6, 0.9])


def test_the_last_epochs_cool_down() -> None:
    steps = Steps()
    run(tiny_model(), cells(), [steps], max_epochs=5, lr=0.012, cool_down=0.6)
    assert steps.learning_rate == pytest.approx([0.012, 0.012, 0.009, 0.006, 0.003])


def test_divergences_may_weigh_nothing() -> None:
    history = run(tiny_model(), cells(), max_kl_weight=0.0, adversarial_classifier=True)
    assert history["train_loss"][0] == pytest.approx(history["reconstruction_loss_train"][0], rel=1e-5)


def test_the_adversary_learns_batches_and_is_fooled_by_the_others() -> None:
    torch.manual_seed(0)
    batch = torch.arange(60) % 3
    latent = torch.nn.functional.one_hot(batch, 3) + 0.1 * torch.randn(60, 3)
    adversary = Adversary(n_latent=3, n_origins=3)
    optimizer = torch.optim.Adam(adversary.parameters(), lr=0.02)
    first = adversary.loss(latent, batch, fool=False).item()
    for _ in range(60):
        optimizer.zero_grad()
        adversary.loss(latent, batch, fool=False).backward()
        optimizer.step()
    adversary.eval()
    with torch.no_grad():
        assert adversary.loss(latent, batch, fool=False) < 0.2 * first
        # Fooling asks for an even spread over the other batches: costly where the truth shows.
        assert adversary.loss(latent, batch, fool=True) > adversary.loss(latent, (batch + 1) % 3, fool=True)


@pytest.mark.parametrize("key", ["batch", "panel"])
def test_one_batch_or_panel_needs_no_adversary(key: str) -> None:
    data = cells()
    single = Cells(**{**data.__dict__, key: np.zeros_like(data.batch)})
    sizes = {"batch": (1, 2), "panel": (2, 1)}[key]
    model = TotalVAE(type(tiny_model().dims)(N_GENES, N_PROTEINS, *sizes), tiny_model().config)
    steps = Steps()
    with pytest.warns(UserWarning, match=r"adversarial_classifier: expected several .*, found 1; training goes on"):
        run(model, single, [steps], adversarial_classifier=True, key_adversarial=key, n_epochs_kl_warmup=5)
    assert steps.adversary == []


# Schedules


def test_the_learning_rate_falls_when_the_elbo_stops_improving() -> None:
    steps = Steps()
    plateau = {"lr": 1.0, "lr_factor": 0.5, "lr_patience": 0, "lr_min": 0.1, "cool_down": 0}
    history = run(tiny_model(), cells(), [steps], max_epochs=12, **plateau)
    elbo, rates = history["elbo_validation"], steps.learning_rate
    expected, best = [1.0], np.inf
    for value in elbo[:-1]:
        expected.append(expected[-1] if value < best else max(0.1, 0.5 * expected[-1]))
        best = min(best, value)
    assert rates == pytest.approx(expected)
    assert len(set(rates)) > 1


def test_it_stays_where_it_is_told_to() -> None:
    steps = Steps()
    run(tiny_model(), cells(), [steps], max_epochs=6, lr=1.0, lr_patience=0, reduce_lr_on_plateau=False, cool_down=0)
    assert set(steps.learning_rate) == {1.0}


def test_training_stops_early() -> None:
    elbo = run(tiny_model(), cells(), max_epochs=40, lr=1.0, early_stopping_patience=2)["elbo_validation"]
    assert len(elbo) < 40
    assert int(np.argmin(elbo)) == len(elbo) - 3


def test_training_goes_on_to_the_end_where_it_is_told_to() -> None:
    history = run(tiny_model(), cells(), max_epochs=9, lr=0.0001, early_stopping=False, early_stopping_patience=0)
    assert len(history["elbo_validation"]) == 9


def test_without_validation_cells_all_epochs_run() -> None:
    config = TrainingConfig(max_epochs=3, batch_size=16, early_stopping_patience=0, lr_patience=0)
    history, n_epochs = fit(
        tiny_model(3), cells(), split_cells(N_CELLS, 1.0), config, accelerator="cpu", progress=False
    )
    assert n_epochs == 3
    assert not [name for name in history if "validation" in name]
    assert history["elbo_train"].index.tolist() == [0, 1, 2]


def test_the_order_of_cells_changes_from_epoch_to_epoch() -> None:
    seen: list[list[int]] = []

    class Order(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, plan: Any, batch: Any, batch_idx: int) -> None:
            seen.append(batch.library.squeeze(-1).tolist())

    run(tiny_model(), cells(), [Order()], max_epochs=3)
    assert sorted(seen[0]) == sorted(seen[1]) == sorted(seen[2])
    assert seen[0] != seen[1]
    assert seen[1] != seen[2]


def test_validation_sees_cells_as_they_are() -> None:
    """Nothing is dropped out or hidden, and nothing drawn but the posterior: the reported loss is the model's own."""
    data, model = cells(unlabelled=0.0), tiny_model(3, dropout_rate_encoder=0.5)
    with torch.no_grad():
        model.encoder.z_log_variance.weight.zero_()
        model.encoder.z_log_variance.bias.fill_(-30.0)  # so that a draw is next to its mean
        for head in (model.encoder.z_mean, model.classifier):
            head.weight.mul_(20.0)
    hiding = Augmentation(no_panel=1.0, part_panel=0.0, unknown_batch=1.0)
    history = run(model, data, max_epochs=2, augmentation=hiding)
    assert not model.training
    held_out = data[split_cells(N_CELLS, 0.8).validation].to_batch()

    def loss(inputs: EncoderInputs) -> float:
        with torch.no_grad():
            logits = model.label_logits(model.encode(inputs)[0].mean)
        assert logits is not None
        return classification_loss(logits, held_out.label).item()

    own = loss(EncoderInputs.of(held_out, model.dims))
    assert history["validation_classification_loss"][-1] == pytest.approx(own, rel=0.01)
    # It would have been another loss by far otherwise.
    torch.manual_seed(0)
    assert loss(hide(EncoderInputs.of(held_out, model.dims), hiding)) != pytest.approx(own, rel=0.03)
    model.train()
    assert loss(EncoderInputs.of(held_out, model.dims)) != pytest.approx(own, rel=0.03)


def test_progress_is_shown_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    config = TrainingConfig(max_epochs=2, augmentation=None)
    fit(tiny_model(), cells(), split_cells(N_CELLS), config, accelerator="cpu", progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Training" in captured.err
    assert "2/2" in captured.err
    assert "validation" in captured.err


def test_progress_without_a_terminal_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainingConfig(max_epochs=20, augmentation=None)

    def lines() -> list[str]:
        fit(tiny_model(), cells(), split_cells(N_CELLS), config, accelerator="cpu", progress=True)
        return [line.split(" epochs, ELBO loss: train ")[0] for line in capsys.readouterr().err.splitlines()]

    assert lines() == ["Training: 20/20"]
    # A tenth of the epochs, where these take longer than half a minute.
    monkeypatch.setattr("totalanvi.training.fitting.callbacks._PLAIN_EVERY", 0.0)
    assert lines() == [f"Training: {done}/20" for done in range(2, 21, 2)]
