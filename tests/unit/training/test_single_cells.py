"""A mini-batch of one cell: batch norm has no variance for it, and yet it trains."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.support.reference_cells import FAST, draw_adata, set_up

from totalanvi.training import TOTALANVI, TOTALVI
from totalanvi.training.network.layers import BatchNorm


def trained(kind: type[TOTALVI], **options: Any) -> TOTALVI:
    adata = draw_adata(40)
    set_up(adata)
    model = kind(adata, n_latent=2, n_hidden=8, **options)
    model.train(max_epochs=1, **FAST)
    return model


@pytest.mark.parametrize("norm", ["none", "both"])
@pytest.mark.parametrize("kind", [TOTALVI, TOTALANVI])
def test_surgery_with_a_query_of_one_cell(kind: type[TOTALVI], norm: str) -> None:
    reference = trained(kind, use_batch_norm=norm)
    query = draw_adata()[:1].copy()
    query.obs["donor"] = "new"
    model = kind.load_query_data(query, reference, unfrozen=True)
    before = model.module.encoder.z_mean.weight.clone()
    model.train(max_epochs=2, adversarial_classifier=True, **FAST)
    assert not torch.equal(model.module.encoder.z_mean.weight, before)
    assert np.isfinite(model.get_latent_representation()).all()


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"external_indexing": [[3], [2]]}])
def test_training_on_one_cell_at_a_time(options: dict[str, Any]) -> None:
    model = trained(TOTALANVI, use_batch_norm="both")
    model.train(max_epochs=1, adversarial_classifier=True, **options, **FAST)
    assert np.isfinite(model.get_latent_representation()).all()


@pytest.mark.parametrize("shape", [(1, 3), (1, 1, 3)])
def test_a_single_cell_is_normalised_with_what_is_known_of_others(shape: tuple[int, ...]) -> None:
    norm = BatchNorm(3)
    for _ in range(3):
        norm(torch.randn(8, 3) * 4.0 + 1.0)
    known = {name: value.clone() for name, value in norm.state_dict().items()}
    cell = torch.randn(shape)
    in_training = norm(cell)
    assert all(torch.equal(value, known[name]) for name, value in norm.state_dict().items())
    assert in_training.shape == shape
    torch.testing.assert_close(in_training, norm.eval()(cell))
