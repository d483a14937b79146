"""A run that diverges ends in one clear error, and the model is what it was before."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.support.reference_cells import FAST, draw_adata, set_up

from totalanvi.training import TOTALANVI, TOTALVI, DivergenceError
from totalanvi.training.fitting.divergence import require_finite, undone_if_diverged


def untrained(kind: type[TOTALVI]) -> TOTALVI:
    adata = draw_adata(40)
    set_up(adata)
    return kind(adata, n_latent=2, n_hidden=8)


@pytest.mark.parametrize("kind", [TOTALVI, TOTALANVI])
@pytest.mark.parametrize("train_size", [0.9, 1.0])
def test_a_run_that_diverges(kind: type[TOTALVI], train_size: float) -> None:
    model = untrained(kind)
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    with pytest.raises(DivergenceError, match=r"found .+ in epoch \d+: .+ Lower lr \(1e\+30 here, 0.004 by default\)"):
        model.train(max_epochs=5, lr=1e30, train_size=train_size, **FAST)
    assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())
    assert not model.module.training
    assert not model.is_trained
    assert model.history == {}


def test_a_trained_model_stays_trained_when_a_second_run_diverges() -> None:
    model = untrained(TOTALANVI)
    model.train(max_epochs=1, **FAST)
    before, split = model.predict(soft=True), model.train_indices
    with pytest.raises(DivergenceError):
        model.train(max_epochs=5, lr=1e30, train_size=0.5, **FAST)
    assert model.is_trained
    assert model.predict(soft=True).equals(before)
    assert model.train_indices is split
    assert len(model.history["elbo_train"]) == 1


def test_the_state_of_a_run_that_diverges_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(DivergenceError):
        untrained(TOTALVI).train(max_epochs=5, lr=1e30, resume_folder=tmp_path, **FAST)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), torch.tensor(float("nan"))])
def test_a_loss_that_is_no_number(loss: object) -> None:
    with pytest.raises(DivergenceError, match=r"found (nan|inf) in epoch 3"):
        require_finite(torch.nn.Linear(2, 2), loss, epoch=2, lr=0.1)


def test_weights_that_are_no_numbers_are_seen_before_any_loss_is() -> None:
    module = torch.nn.Linear(2, 2)
    require_finite(module, 1.0, epoch=0, lr=0.1)
    with torch.no_grad():
        module.bias[0] = float("nan")
    with pytest.raises(DivergenceError, match="found weights that are not finite in epoch 1"):
        require_finite(module, 1.0, epoch=0, lr=0.1)


def test_other_errors_undo_nothing() -> None:
    module = torch.nn.Linear(2, 2)

    def interrupted() -> None:
        with undone_if_diverged(module), torch.no_grad():
            module.bias[0] = 7.0
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert module.bias[0] == 7.0
