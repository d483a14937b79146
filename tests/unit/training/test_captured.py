"""Recorded training steps do what steps do: same weights, same history, none lost; CUDA's part is in tests/gpu."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback
from tests.support.recorded_steps import N_CELLS, OPTIONS, Again, Recorded
from tests.support.reference_cells import draw_cells
from tests.support.tiny_model import N_GENES, N_PROTEINS, TINY, tiny_model

from totalanvi.training.data import Cells
from totalanvi.training.fitting.capturable import hindrances
from totalanvi.training.fitting.fit import fit
from totalanvi.training.fitting.split import split_cells
from totalanvi.training.fitting.static_batch import StaticBatch
from totalanvi.training.fitting.training_config import TrainingConfig
from totalanvi.training.loaders import TrainingBatch
from totalanvi.training.network.augmentation import Augmentation
from totalanvi.training.network.vae import TotalVAE

THINNED = Augmentation(thinning=0.5)


def cells() -> Cells:
    return draw_cells(n_cells=N_CELLS, n_genes=N_GENES, n_proteins=N_PROTEINS)


class Counted(L.Callback):
    """Notes how many steps of optimisers Lightning has counted."""

    def on_train_end(self, trainer: L.Trainer, plan: L.LightningModule) -> None:
        self.n_steps = trainer.global_step


def run(model: TotalVAE, callbacks: list[L.Callback], **options: Any) -> tuple[dict[str, Any], int]:
    """Train; the history, and the steps that were counted."""
    counted, config = Counted(), TrainingConfig(**{**OPTIONS, **options})
    callbacks = [*callbacks, counted]
    history, _ = fit(
        model, cells(), split_cells(N_CELLS), config, accelerator="cpu", progress=False, callbacks=callbacks
    )
    return {name: frame[name].tolist() for name, frame in history.items()}, counted.n_steps


@pytest.mark.parametrize(
    ("labels", "architecture", "options"),
    [
        (0, {}, {}),
        (3, {}, {}),
        (3, {"norm_encoder": "batch", "norm_decoder": "batch"}, {}),
        (0, {"gene_likelihood": "zinb", "use_observed_lib_size": False}, {}),
        (3, {"gene_dispersion": "gene-label", "protein_dispersion": "protein-batch"}, {"augmentation": THINNED}),
        (3, {}, {"optimizer": "AdamW", "warm_up_proteins": True, "gradient_clip": 0.0}),
    ],
)
def test_recorded_steps_train_as_steps_do(labels: int, architecture: dict[str, Any], options: dict[str, Any]) -> None:
    plain, recorded, recorder = tiny_model(labels, **architecture), tiny_model(labels, **architecture), Again()
    history, n_steps = run(plain, [], **options)
    same, same_steps = run(recorded, [Recorded(recorder)], **options)
    # Mini-batches of 16 and of 4, each with the adversary and without.
    assert recorder.warmed_up == 4
    assert recorder.recorded >= 4
    assert recorder.replayed == 4 * 5 - 4
    assert same_steps == n_steps == 20 + 12
    assert same.keys() == history.keys()
    for name, values in history.items():
        assert same[name] == pytest.approx(values, rel=1e-4, abs=1e-5), name
    for name, weight in plain.state_dict().items():
        assert torch.allclose(recorded.state_dict()[name], weight, rtol=1e-3, atol=1e-4), name


def test_covariates_and_size_factors_are_taken_along() -> None:
    data = cells()
    rng = torch.Generator().manual_seed(0)
    numbers = torch.rand(N_CELLS, 1, generator=rng).numpy()
    data = replace(data, categorical=(data.batch[:, None] + 1) % 2, continuous=numbers, size_factor=numbers + 0.5)
    dims = replace(TINY, n_labels=3, n_categories=(2,), n_continuous=1, has_size_factor=True)
    config = TrainingConfig(**{**OPTIONS, "max_epochs": 2})
    models = [tiny_model(3, dims=dims) for _ in range(2)]
    for model, callbacks in zip(models, ([], [Recorded(Again())]), strict=True):
        fit(model, data, split_cells(N_CELLS), config, accelerator="cpu", progress=False, callbacks=callbacks)
    for name, weight in models[0].state_dict().items():
        assert torch.allclose(models[1].state_dict()[name], weight, rtol=1e-3, atol=1e-4), name


class Refuses(Again):
    """Cannot record."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("operation not permitted when stream is capturing\nand more")


def test_a_step_that_cannot_be_recorded_is_done_as_it_is() -> None:
    plain, refused = tiny_model(3), tiny_model(3)
    history, n_steps = run(plain, [])
    with pytest.warns(UserWarning, match=r"found one that it refuses \(operation not permitted.*capturing\); ") as told:
        same, same_steps = run(refused, [Recorded(Refuses())])
    assert len(told) == 1
    assert (same, same_steps) == (history, n_steps)
    for name, weight in plain.state_dict().items():
        assert torch.equal(refused.state_dict()[name], weight), name


def training_batch(n_genes: int = N_GENES, **options: Any) -> TrainingBatch:
    batch = draw_cells(n_genes=n_genes, n_proteins=N_PROTEINS, **options).to_batch()
    return TrainingBatch(**batch.__dict__, target=batch.label, shares=torch.ones(2))


def test_a_static_batch_has_the_cells_that_were_copied_last() -> None:
    first, second = training_batch(seed=1), training_batch(seed=2)
    static = StaticBatch(first)
    assert static.fits(second)
    for batch in (first, second):
        static.fill(batch)
        held = static.cells
        assert len(held.rna.values) == static.capacity > len(batch.rna.values)
        assert torch.equal(held.rna.to_dense(), batch.rna.to_dense())
        assert torch.equal(held.library, batch.library)
        assert torch.equal(held.protein, batch.protein)
        assert torch.equal(held.target, batch.target)
    where = held.rna.values.data_ptr()
    static.fill(first)
    assert static.cells.rna.values.data_ptr() == where


def test_a_static_batch_knows_what_does_not_fit() -> None:
    static = StaticBatch(training_batch(n_genes=2))
    assert not static.fits(training_batch(n_genes=200))
    assert not static.fits(training_batch(n_genes=2, n_cells=13))


def test_a_mini_batch_with_too_many_counts_gets_a_new_record(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Again()
    plain, recorded = tiny_model(3), tiny_model(3)
    history, _ = run(plain, [], max_epochs=1)
    monkeypatch.setattr("totalanvi.training.fitting.static_batch._ROOM", 1.0)
    same, _ = run(recorded, [Recorded(recorder)], max_epochs=1)
    assert recorder.recorded >= 1
    assert same["train_loss"] == pytest.approx(history["train_loss"], rel=1e-5)


class Ask(L.Callback):
    """Notes what keeps steps of a run from being recorded, here and on a GPU."""

    def on_train_start(self, trainer: L.Trainer, plan: Any) -> None:
        self.here, self.on_a_gpu = (
            hindrances(torch.device(kind), trainer, plan.module, plan.config) for kind in ("cpu", "cuda")
        )


class LooksAtGradients(L.Callback):
    def on_after_backward(self, trainer: L.Trainer, plan: L.LightningModule) -> None:
        pass


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters)


@pytest.mark.parametrize(
    ("labels", "architecture", "options", "callbacks", "expected"),
    [
        (3, {}, {}, [], []),
        (0, {"norm_encoder": "batch"}, {}, [], []),
        (3, {"norm_encoder": "batch"}, {}, [], ["shapes that follow the cells"]),
        (3, {}, {"optimizer": "Custom", "optimizer_creator": adam}, [], ["an optimiser of the user's"]),
        (3, {}, {}, [LooksAtGradients()], ["a callback that looks into steps"]),
        (3, {}, {}, [LambdaCallback(on_before_zero_grad=lambda *_: None)], ["a callback that looks into steps"]),
    ],
)
def test_which_runs_can_be_recorded(
    labels: int, architecture: dict[str, Any], options: dict[str, Any], callbacks: list[L.Callback], expected: list[str]
) -> None:
    ask = Ask()
    run(tiny_model(labels, **architecture), [*callbacks, ask], max_epochs=1, **options)
    assert ask.on_a_gpu == expected
    assert ask.here == ["no GPU", *expected]
