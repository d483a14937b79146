"""What trains and what stays: a model that was loaded or asked trains like a new one, frozen parts aside."""

from __future__ import annotations

import warnings
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from tests.support.reference_cells import FAST, draw_cells
from tests.support.tiny_model import N_GENES, N_PROTEINS, tiny_model

from totalanvi.training import TOTALANVI
from totalanvi.training.data import Cells
from totalanvi.training.fitting.fit import fit
from totalanvi.training.fitting.optimizers import trained_parameters
from totalanvi.training.fitting.split import split_cells
from totalanvi.training.fitting.training_config import TrainingConfig
from totalanvi.training.network.vae import TotalVAE

N_CELLS = 40


def cells() -> Cells:
    return draw_cells(n_cells=N_CELLS, n_genes=N_GENES, n_proteins=N_PROTEINS)


def run(model: TotalVAE, callbacks: list[L.Callback] | None = None, **options: Any) -> int:
    config = TrainingConfig(**{"max_epochs": 2, "batch_size": 16, **options})
    split = split_cells(N_CELLS)
    return fit(model, cells(), split, config, accelerator="cpu", progress=False, callbacks=callbacks)[1]


class Modes(L.Callback):
    """Notes, in each step, which parts are in training mode, and whether dropout changes what the encoder says."""

    def __init__(self) -> None:
        self.training: list[set[str]] = []
        self.drops: list[bool] = []

    def on_train_batch_end(self, trainer: L.Trainer, plan: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.training.append({name for name, part in plan.module.named_modules() if part.training})
        with torch.no_grad(), torch.random.fork_rng():
            one, other = (plan.module(batch).posterior.mean for _ in range(2))
        self.drops.append(not torch.equal(one, other))


def test_a_model_in_evaluation_mode_trains_with_dropout() -> None:
    model = tiny_model(3, dropout_rate_encoder=0.5)
    assert not model.training
    modes = Modes()
    run(model, [modes])
    everything = {name for name, _ in model.named_modules()}
    # After the first epoch's validation as well.
    assert len(modes.training) > 3
    assert all(training == everything for training in modes.training)
    assert all(modes.drops)
    assert not model.training


def test_a_loaded_model_trains_with_dropout(checkpoint: Any, reference_mdata: Any) -> None:
    loaded = TOTALANVI.load(checkpoint, adata=reference_mdata)
    loaded.predict()
    modes = Modes()
    for _ in range(2):
        loaded.train(max_epochs=1, batch_size=128, callbacks=[modes], **FAST)
    assert len(modes.drops) == 6
    assert all(modes.drops)


def test_batch_statistics_move_with_the_weights_and_stay_with_frozen_ones() -> None:
    model = tiny_model(norm_encoder="batch", norm_decoder="batch")
    frozen = model.encoder.trunk.norms[0]
    for weight in frozen.parameters():
        weight.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    run(model)
    after = model.state_dict()
    for name in before:
        same = torch.equal(before[name], after[name])
        if name.startswith("encoder.trunk.norms.0."):
            assert same, name
        elif name.endswith(("running_mean", "running_var")):
            assert not same, name


@pytest.mark.parametrize("optimizer", ["Adam", "AdamW"])
def test_frozen_weights_are_left_alone(optimizer: str) -> None:
    model = tiny_model(3)
    for weight in model.encoder.parameters():
        weight.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    run(model, optimizer=optimizer, weight_decay=0.1)
    for name, value in model.state_dict().items():
        if name.startswith("encoder."):
            assert torch.equal(value, before[name]), name
    assert not torch.equal(model.px_r, before["px_r"])


@pytest.mark.parametrize("optimizer", ["Adam", "AdamW", "Custom"])
def test_weights_that_are_frozen_in_part_do_not_decay(optimizer: str) -> None:
    """What surgery does: the gradient of the reference's entries is zero, and only the new ones move."""
    model = tiny_model(3)
    weight = model.gene_decoder.log_scale.weight
    old = torch.ones_like(weight, dtype=torch.bool)
    old[:, -1] = False
    model.trained_parts = {"gene_decoder.log_scale.weight": ~old}
    before, other = weight.detach().clone(), model.encoder.rna_in.weight.detach().clone()
    creator = {"optimizer_creator": lambda groups: torch.optim.SGD(groups, lr=1e-3, momentum=0.9, weight_decay=0.1)}
    run(model, optimizer=optimizer, weight_decay=0.1, **(creator if optimizer == "Custom" else {}))
    assert torch.equal(weight[old], before[old])
    assert not torch.equal(weight[~old], before[~old])
    assert not torch.equal(model.encoder.rna_in.weight, other)


def test_weights_are_in_one_group_unless_some_are_frozen_in_part() -> None:
    model = tiny_model()
    (group,) = trained_parameters(model)
    assert len(group["params"]) == len(list(model.parameters()))
    assert "weight_decay" not in group


def test_a_model_of_which_nothing_trains() -> None:
    model = tiny_model(3)
    for weight in model.parameters():
        weight.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.warns(UserWarning, match="Nothing to train: every weight of the model is frozen"):
        assert run(model) == 0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_frozen_model_counts_as_trained(reference_mdata: Any) -> None:
    model = TOTALANVI(reference_mdata, n_latent=4, n_hidden=8, empirical_protein_background_prior=False)
    for weight in model.module.parameters():
        weight.requires_grad_(False)
    with pytest.warns(UserWarning, match="Nothing to train"):
        model.train(max_epochs=3, **FAST)
    assert model.is_trained
    assert model.history == {}
    assert len(model.train_indices) == 360
    assert np.isfinite(model.get_latent_representation()).all()


def test_training_warns_of_nothing(reference_mdata: Any) -> None:
    model = TOTALANVI(reference_mdata, n_latent=4, n_hidden=8, empirical_protein_background_prior=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.train(max_epochs=1, batch_size=128, **FAST)
    assert model.is_trained
