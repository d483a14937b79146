"""The yardstick that the product and scvi-tools are held to while they train."""

from __future__ import annotations

from pathlib import Path

import mudata as md
import numpy as np
import pytest
import torch
from benchmarks.peers.held_out import measure

from totalanvi.training import TOTALANVI


def test_the_yardstick_is_the_models_own_bound_of_cells_without_labels(
    checkpoint: Path, reference_mdata: md.MuData
) -> None:
    model = TOTALANVI.load(checkpoint, adata=reference_mdata)
    truth = reference_mdata["rna"].obs["cell_type"].astype(str)
    known = np.flatnonzero(truth != "unknown")[:150]
    held_out = reference_mdata[known].copy()
    held_out["rna"].obs["cell_type"] = "unknown"
    held_out.uns = reference_mdata.uns
    codes = torch.from_numpy(np.searchsorted(sorted(set(truth) - {"unknown"}), truth.iloc[known]))

    state = torch.get_rng_state()
    model.module.train()
    elbo, accuracy = measure("totalanvi", model, held_out, codes, n_draws=10)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.module.training
    assert model.module.encoder.training

    own = np.mean([float(model.get_elbo(held_out)) for _ in range(10)])
    assert elbo == pytest.approx(-own, rel=3e-3)
    assert accuracy == np.mean(model.predict(held_out) == truth.iloc[known])
