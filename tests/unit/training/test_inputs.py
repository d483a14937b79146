"""What the encoder sees of a cell, and what is hidden from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.support.tiny_model import N_GENES, N_PROTEINS, TINY, tiny_batch

from totalanvi.training.network.augmentation import Augmentation
from totalanvi.training.network.inputs import EncoderInputs, hide, scaled_counts, scaled_proteins

NOTHING = Augmentation(no_panel=0.0, part_panel=0.0, unknown_batch=0.0, thinning=0.0)
N_CELLS = 400


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def inputs() -> EncoderInputs:
    return EncoderInputs.of(tiny_batch(n_cells=N_CELLS), TINY)


def with_rates(**rates: float) -> Augmentation:
    return Augmentation(**{**NOTHING.__dict__, **rates})


def test_everything_is_known_at_first(inputs: EncoderInputs) -> None:
    batch = tiny_batch(n_cells=N_CELLS)
    assert torch.equal(inputs.covariates.batch.argmax(dim=1), batch.batch)
    assert torch.equal(inputs.covariates.batch.sum(dim=1), torch.ones(N_CELLS))
    assert torch.equal(inputs.measured.bool(), batch.measured)
    assert torch.equal(inputs.library.squeeze(-1), batch.rna.to_dense().sum(dim=1))


def test_rates_of_zero_hide_nothing(inputs: EncoderInputs) -> None:
    seen = hide(inputs, NOTHING)
    for name in ("library", "protein", "measured"):
        assert torch.equal(getattr(seen, name), getattr(inputs, name)), name
    assert torch.equal(seen.covariates.batch, inputs.covariates.batch)
    assert torch.equal(seen.rna.to_dense(), inputs.rna.to_dense())


def test_a_panel_hidden_from_all(inputs: EncoderInputs) -> None:
    seen = hide(inputs, with_rates(no_panel=1.0))
    assert not seen.protein.any()
    assert not seen.measured.any()
    assert torch.equal(seen.covariates.batch, inputs.covariates.batch)


def test_a_batch_hidden_from_all_is_no_batch(inputs: EncoderInputs) -> None:
    seen = hide(inputs, with_rates(unknown_batch=1.0))
    assert not seen.covariates.batch.any()
    assert torch.equal(seen.measured, inputs.measured)


def test_parts_of_panels(inputs: EncoderInputs) -> None:
    seen = hide(inputs, with_rates(part_panel=1.0))
    had = inputs.measured.sum(dim=1) >= N_PROTEINS - 1
    share = seen.measured[had].sum(dim=1) / inputs.measured[had].sum(dim=1)
    assert abs(share.mean() - 0.5) < 0.05
    assert len(share.unique()) > 3
    assert set(share.unique().tolist()) >= {0.0, 1.0}


def test_rates_are_shares_of_the_cells(inputs: EncoderInputs) -> None:
    seen = hide(inputs, with_rates(no_panel=0.25, unknown_batch=0.5))
    measured = inputs.measured.any(dim=1)
    hidden = ~seen.measured[measured].any(dim=1)
    assert abs(hidden.float().mean() - 0.25) < 0.08
    # Whole panels go: what a cell keeps, it keeps whole.
    assert torch.equal(seen.measured[measured][~hidden], inputs.measured[measured][~hidden])
    assert abs((seen.covariates.batch.sum(dim=1) == 0).float().mean() - 0.5) < 0.08


def test_nothing_appears_that_was_not_measured(inputs: EncoderInputs) -> None:
    for rates in (NOTHING, Augmentation(), with_rates(part_panel=1.0)):
        seen = hide(inputs, rates)
        assert (seen.measured <= inputs.measured).all()
        assert (seen.protein[seen.measured == 0] == 0).all()
        assert torch.equal(seen.protein[seen.measured == 1], inputs.protein[seen.measured == 1])


def test_thinned_counts_are_fewer_and_whole(inputs: EncoderInputs) -> None:
    deep = EncoderInputs(**{**inputs.__dict__, "rna": inputs.rna.with_values(inputs.rna.values * 50)})
    seen = hide(deep, with_rates(thinning=1.0, thinning_floor=0.25))
    assert torch.equal(seen.rna.values, seen.rna.values.round())
    assert (seen.rna.values <= deep.rna.values).all()
    assert (seen.rna.values >= 0).all()
    assert torch.equal(seen.library.squeeze(-1), seen.rna.to_dense().sum(dim=1))
    kept = seen.rna.to_dense().sum(dim=1) / deep.rna.to_dense().sum(dim=1)
    kept = kept[kept.isfinite()]
    assert kept.min() > 0.15
    assert abs(kept.mean() - 0.625) < 0.05
    # The cells themselves keep their counts: the likelihood scores those.
    assert torch.equal(deep.rna.values, inputs.rna.values * 50)


def test_thinning_may_spare_cells(inputs: EncoderInputs) -> None:
    deep = EncoderInputs(**{**inputs.__dict__, "rna": inputs.rna.with_values(inputs.rna.values * 50)})
    seen = hide(deep, with_rates(thinning=0.5, thinning_floor=0.25))
    spared = (seen.rna.to_dense() == deep.rna.to_dense()).all(dim=1)
    assert 0.4 < spared.float().mean() < 0.62


def test_scaled_counts_of_zero_are_zero() -> None:
    counts = torch.tensor([[0.0, 2.0, 4.0], [0.0, 0.0, 0.0]])
    library = counts.sum(dim=1, keepdim=True)
    scaled = scaled_counts(counts, library, n_genes=3)
    assert torch.allclose(scaled[0], torch.log1p(counts[0] / 3.0))  # a mean count of 2
    assert not scaled[1].any()


def test_depth_hardly_matters_to_scaled_counts() -> None:
    counts = torch.poisson(torch.full((1, N_GENES), 200.0))
    one, other = (scaled_counts(c, c.sum(dim=1, keepdim=True), N_GENES) for c in (counts, 20 * counts))
    assert torch.allclose(one, other, atol=0.01)


def test_absent_proteins_do_not_move_the_measured_ones() -> None:
    """A panel with a protein that was not measured looks, elsewhere, like the panel without that protein."""
    counts = torch.tensor([[10.0, 40.0, 5.0, 7.0]])
    measured = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    with_absent = scaled_proteins(counts, measured)
    without = scaled_proteins(counts[:, :3], measured[:, :3])
    assert torch.equal(with_absent[:, :3], without)
    assert with_absent[0, 3] == 0
    assert np.isclose(without[0, 1], np.log1p(40 / (1 + 55 / 3)))


def test_no_protein_at_all_is_zero() -> None:
    assert not scaled_proteins(torch.full((1, 3), 9.0), torch.zeros(1, 3)).any()
