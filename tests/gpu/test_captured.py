"""Training steps that a GPU records and repeats train what steps as they are train."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from tests.support.recorded_steps import N_CELLS, OPTIONS
from tests.support.reference_cells import draw_cells
from tests.support.tiny_model import N_GENES, N_PROTEINS, tiny_model

from totalanvi.training.fitting import plan as plan_module
from totalanvi.training.fitting.fit import fit
from totalanvi.training.fitting.split import split_cells
from totalanvi.training.fitting.training_config import TrainingConfig
from totalanvi.training.network.augmentation import Augmentation
from totalanvi.training.network.vae import TotalVAE


class Watch(L.Callback):
    """Notes how many steps were counted, and how many kinds of steps were recorded."""

    def on_train_end(self, trainer: L.Trainer, plan: Any) -> None:
        self.n_steps = trainer.global_step
        self.n_records = len(plan._captured._records) if plan._captured else 0


class PowerCut(L.Callback):
    """Ends a run in the middle of an epoch."""

    def on_train_batch_end(self, trainer: L.Trainer, plan: Any, *args: Any) -> None:
        if trainer.current_epoch == 2:
            raise RuntimeError("power cut")


def run(
    model: TotalVAE,
    *callbacks: L.Callback,
    cuda_graphs: bool = True,
    resume_folder: Path | None = None,
    **options: Any,
) -> dict[str, list[float]]:
    """Train on the GPU; the history."""
    cells = draw_cells(n_cells=N_CELLS, n_genes=N_GENES, n_proteins=N_PROTEINS)
    history, _ = fit(
        model,
        cells,
        split_cells(N_CELLS),
        TrainingConfig(**{**OPTIONS, **options}),
        accelerator="gpu",
        progress=False,
        callbacks=list(callbacks),
        cuda_graphs=cuda_graphs,
        resume_folder=resume_folder,
    )
    return {name: frame[name].tolist() for name, frame in history.items()}


@pytest.mark.parametrize(
    ("labels", "architecture", "options"),
    [
        (0, {"norm_encoder": "batch", "norm_decoder": "batch"}, {}),
        (3, {}, {}),
        (3, {"n_enumerated_labels": 1}, {"optimizer": "AdamW"}),
        (0, {"gene_likelihood": "zinb", "use_observed_lib_size": False}, {}),
        (3, {"gene_dispersion": "gene-label", "protein_dispersion": "protein-batch"}, {}),
        (3, {}, {"augmentation": Augmentation(thinning=0.5), "warm_up_proteins": True}),
    ],
)
def test_recorded_steps_train_as_steps_do(labels: int, architecture: dict[str, Any], options: dict[str, Any]) -> None:
    plain, recorded = Watch(), Watch()
    history = run(tiny_model(labels, **architecture), plain, cuda_graphs=False, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same = run(tiny_model(labels, **architecture), recorded, **options)
    assert (plain.n_records, recorded.n_records) == (0, 4)
    assert recorded.n_steps == plain.n_steps == 20 + 12
    assert same.keys() == history.keys()
    # Noise is drawn at its own time where counts are thinned; elsewhere it is the same.
    for name in ("elbo_train", "train_loss", "elbo_validation"):
        assert same[name] == pytest.approx(history[name], rel=0.01 if "augmentation" not in options else 0.1), name
    assert same["lr-AdamW" if "optimizer" in options else "lr-Adam"][-1] < 0.004
    assert same["kl_weight"] == pytest.approx(history["kl_weight"], rel=1e-5)


def test_an_interrupted_run_goes_on_recorded(tmp_path: Path) -> None:
    history = run(tiny_model(3))
    model = tiny_model(3)
    with pytest.raises(RuntimeError, match="power cut"):
        run(model, PowerCut(), resume_folder=tmp_path)
    watch = Watch()
    resumed = run(tiny_model(3), watch, resume_folder=tmp_path)
    assert watch.n_steps == 20 + 12
    assert resumed["elbo_train"] == pytest.approx(history["elbo_train"], rel=0.01)


def test_a_step_that_waits_for_the_device_is_done_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "mask_gradients", lambda module: torch.zeros(1, device="cuda").item())
    watch = Watch()
    with pytest.warns(UserWarning, match="Expected a training step that CUDA can record"):
        history = run(tiny_model(3), watch)
    assert watch.n_steps == 20 + 12
    assert len(history["elbo_train"]) == 4
    assert torch.rand(3, device="cuda").isfinite().all()
