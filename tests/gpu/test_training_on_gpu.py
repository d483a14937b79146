"""A model trained on a GPU is the model of its checkpoint, goes on from where it was interrupted, and exports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import mudata as md
import numpy as np
import pytest
import torch

from totalanvi.export import export_bundle
from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.engine.engine import Engine
from totalanvi.training import TOTALANVI
from totalanvi.training.fitting.random_state import random_state, restore_random_state
from totalanvi.training.fitting.resume import SafeCheckpointIO

OPTIONS: dict[str, Any] = {"train_size": 0.7, "batch_size": 32, "progress": False, "seed": 0, "lr": 1e-2}


def trained(mdata: md.MuData, accelerator: str, **options: Any) -> TOTALANVI:
    model = TOTALANVI(mdata, n_latent=8, n_hidden=64)
    model.train(**OPTIONS | {"max_epochs": 15, "accelerator": accelerator} | options)
    return model


@pytest.fixture(scope="module")
def model(reference_mdata: md.MuData) -> TOTALANVI:
    """Trained on the device that comes first."""
    return trained(reference_mdata, "auto")


def test_it_stays_where_it_was_trained_and_knows_as_much(model: TOTALANVI, reference_mdata: md.MuData) -> None:
    assert next(model.module.parameters()).is_cuda
    on_cpu = trained(reference_mdata, "cpu")
    last = [float(each.history["elbo_validation"].iloc[-1].item()) for each in (model, on_cpu)]
    assert last[0] == pytest.approx(last[1], rel=0.03)


def test_its_checkpoint_is_the_same_model_on_a_cpu(
    model: TOTALANVI, reference_mdata: md.MuData, tmp_path: Path
) -> None:
    model.save(tmp_path / "checkpoint")
    loaded = TOTALANVI.load(tmp_path / "checkpoint", adata=reference_mdata, accelerator="cpu")
    assert not next(loaded.module.parameters()).is_cuda
    here, there = (each.get_latent_representation() for each in (model, loaded))
    np.testing.assert_allclose(here, there, rtol=1e-4, atol=1e-4)
    assert np.mean(np.asarray(model.predict()) == np.asarray(loaded.predict())) > 0.99


def test_a_reference_trained_here_is_exported_and_served(model: TOTALANVI, tmp_path: Path) -> None:
    model.fit_readout()
    model.save(tmp_path / "checkpoint")
    bundle = export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", name="here")
    assert Engine(Bundle.open(bundle), "cuda").provider == "cuda"


def test_an_interrupted_run_goes_on(reference_mdata: md.MuData, tmp_path: Path) -> None:
    class PowerCut(L.Callback):
        def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            if trainer.current_epoch == 3:
                raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        trained(reference_mdata, "gpu", max_epochs=5, resume_folder=tmp_path, callbacks=[PowerCut()])
    resumed = trained(reference_mdata, "gpu", max_epochs=5, resume_folder=tmp_path)
    whole = trained(reference_mdata, "gpu", max_epochs=5)
    found, expected = (each.history["elbo_train"].to_numpy(dtype=float) for each in (resumed, whole))
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_random_numbers_are_taken_up_on_the_device_that_draws_them(tmp_path: Path) -> None:
    device = torch.device("cuda")
    SafeCheckpointIO().save_checkpoint(random_state(device), tmp_path / "state")
    first = [torch.rand(3), torch.rand(3, device=device)]
    restore_random_state(SafeCheckpointIO().load_checkpoint(tmp_path / "state"), device)
    assert all(map(torch.equal, [torch.rand(3), torch.rand(3, device=device)], first))
