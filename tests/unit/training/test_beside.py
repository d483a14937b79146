"""Two threads train as one does, and leave torch as it was."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from tests.support.reference_cells import draw_cells
from tests.support.tiny_model import N_GENES, N_PROTEINS, tiny_model
from torch import Tensor

from totalanvi.training.fitting.fit import fit
from totalanvi.training.fitting.split import split_cells
from totalanvi.training.fitting.training_config import TrainingConfig
from totalanvi.training.network.augmentation import Augmentation

N_CELLS = 40


@pytest.fixture(params=[2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


class Look(L.Callback):
    """Notes the threads that are there while a step is done, and how many of them torch uses."""

    def __init__(self) -> None:
        self.beside: list[bool] = []
        self.of_torch: list[int] = []

    def on_train_batch_end(self, *args: Any) -> None:
        self.beside.append(any(thread.name.startswith("beside") for thread in threading.enumerate()))
        self.of_torch.append(torch.get_num_threads())


class LookAtLosses(Look):
    """Notes losses in the middle of a step."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []

    def on_before_backward(self, trainer: L.Trainer, plan: L.LightningModule, loss: Tensor) -> None:
        self.losses.append(loss.item())


def run(
    callback: L.Callback,
    *,
    hides: bool = True,
    precision: str = "32-true",
    resume_folder: Path | None = None,
    **options: Any,
) -> tuple[Any, Any]:
    """Train for two epochs; the history, and the weights."""
    model = tiny_model(3, **options)
    data = draw_cells(n_cells=N_CELLS, n_genes=N_GENES, n_proteins=N_PROTEINS)
    config = TrainingConfig(max_epochs=2, batch_size=16, augmentation=Augmentation() if hides else None)
    where: dict[str, Any] = {"accelerator": "cpu", "progress": False, "precision": precision}
    split = split_cells(N_CELLS)
    history, _ = fit(model, data, split, config, callbacks=callback, resume_folder=resume_folder, **where)
    return {name: frame[name].tolist() for name, frame in history.items()}, model.state_dict()


@pytest.mark.parametrize("hides", [True, False])
def test_two_threads_train_as_one_does(threads: int, hides: bool) -> None:
    look = Look()
    history, weights = run(look, hides=hides)
    assert all(look.beside)
    assert set(look.of_torch) == {threads - threads // 2}
    torch.set_num_threads(1)
    alone = Look()
    expected_history, expected = run(alone, hides=hides)
    assert not any(alone.beside)
    assert history.keys() == expected_history.keys()
    for name, values in history.items():
        assert values == pytest.approx(expected_history[name], rel=1e-5, nan_ok=True), name
    for name, weight in weights.items():
        if threads == 2:  # each computes by itself: bit by bit
            assert torch.equal(weight, expected[name]), name
        torch.testing.assert_close(weight, expected[name], msg=name)


class PowerCut(Look):
    """Ends a run in the middle of its second epoch."""

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.current_epoch == 1:
            raise RuntimeError("power cut")


def test_an_interrupted_run_equals_one_that_was_not(threads: int, tmp_path: Path) -> None:
    history, expected = run(Look())
    with pytest.raises(RuntimeError, match="power cut"):
        run(PowerCut(), resume_folder=tmp_path)
    resumed, weights = run(Look(), resume_folder=tmp_path)
    assert resumed == history
    for name, weight in weights.items():
        assert torch.equal(weight, expected[name]), name


def test_layers_forget_the_thread_in_the_end(threads: int) -> None:
    model = tiny_model(3)

    class Layers(L.Callback):
        def __init__(self) -> None:
            self.late: list[bool] = []

        def on_train_batch_end(self, *args: Any) -> None:
            self.late.append(model.gene_decoder.log_scale.late is not None)

    layers, cells = Layers(), draw_cells(n_cells=N_CELLS, n_genes=N_GENES, n_proteins=N_PROTEINS)
    config = TrainingConfig(max_epochs=1)
    fit(model, cells, split_cells(N_CELLS), config, accelerator="cpu", progress=False, callbacks=layers)
    assert all(layers.late)
    assert all(getattr(layer, "late", None) is None for layer in model.modules())


def test_torch_has_its_threads_back(threads: int) -> None:
    run(Look())
    assert torch.get_num_threads() == threads

    class Fail(L.Callback):
        def on_train_batch_end(self, *args: Any) -> None:
            raise RuntimeError("failed")

    with pytest.raises(RuntimeError, match="failed"):
        run(Fail())
    assert torch.get_num_threads() == threads
    assert not any(thread.name.startswith("beside") for thread in threading.enumerate())


@pytest.mark.parametrize(
    "options", [{"gene_likelihood": "zinb"}, {"gene_dispersion": "gene-batch"}, {"precision": "bf16-mixed"}], ids=str
)
def test_no_thread_is_kept_for_one_that_would_have_nothing_to_do(threads: int, options: dict[str, Any]) -> None:
    look = Look()
    run(look, **options)
    assert not any(look.beside)
    assert set(look.of_torch) == {threads}


def test_a_callback_that_looks_at_a_loss_finds_a_number(threads: int) -> None:
    look = LookAtLosses()
    run(look)
    assert not any(look.beside)
    assert torch.tensor(look.losses).isfinite().all()
