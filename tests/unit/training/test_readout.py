"""The readout: what it is fitted to, what it answers, and that it is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mudata as md
import numpy as np
import pytest
import scipy.sparse as sp
import torch

from totalanvi.training import TOTALANVI
from totalanvi.training.data import Cells
from totalanvi.training.errors import ArgumentError
from totalanvi.training.readout import fit as fitting
from totalanvi.training.readout.density import LabelDensity
from totalanvi.training.readout.fit import fit_readout
from totalanvi.training.readout.members import _seen
from totalanvi.training.readout.normalised import log_normalised, thinned
from totalanvi.training.readout.panel_labels import fit_panel_labels
from totalanvi.training.readout.projection import Projection, Targets, cross_fitted_regressions
from totalanvi.training.readout.readout import Readout
from totalanvi.training.readout.scales import ProteinScales

N_CELLS, N_GENES, N_PROTEINS, N_LABELS = 240, 60, 6, 3


def draw(seed: int, n_cells: int = N_CELLS) -> Cells:
    """Cells of three types, in two batches of which the second lacks the last protein and counts others twice."""
    profiles = np.random.default_rng(0)
    genes, proteins = profiles.gamma(0.5, 4.0, (N_LABELS, N_GENES)), profiles.gamma(0.7, 30.0, (N_LABELS, N_PROTEINS))
    rng = np.random.default_rng(seed)
    label, batch = rng.integers(N_LABELS, size=n_cells), rng.integers(2, size=n_cells)
    measured = np.ones((n_cells, N_PROTEINS), dtype=bool)
    measured[batch == 1, -1] = False
    protein = rng.poisson(proteins[label] * (1 + batch[:, None])) * measured
    return Cells(
        rna=sp.csr_matrix(rng.poisson(genes[label]).astype(np.float32)),
        protein=protein.astype(np.float32),
        measured=measured,
        batch=batch,
        panel=batch,
        label=label,
    )


@pytest.fixture(scope="module")
def readout() -> Readout:
    return fit_readout(draw(1), N_LABELS, n_batches=2, seed=3)


def ask(readout: Readout, cells: Cells, measured: np.ndarray | None = None) -> list[np.ndarray]:
    shown = cells.measured if measured is None else measured
    rna = torch.from_numpy(cells.rna.toarray())
    inputs = (rna, rna.sum(dim=1, keepdim=True), torch.from_numpy(cells.protein * shown))
    with torch.no_grad():
        answers = readout.network(*inputs, torch.from_numpy(shown).float(), *readout.network.every_gene)
    return [answer.numpy() for answer in answers]


def test_log_normalised_is_per_ten_thousand() -> None:
    found = log_normalised(sp.csr_matrix(np.array([[1.0, 0.0, 3.0], [0.0, 0.0, 0.0]])))
    assert np.allclose(found.toarray(), [[np.log1p(2500), 0, np.log1p(7500)], [0, 0, 0]])


def test_thinning_keeps_the_share_it_is_asked_for() -> None:
    counts = sp.csr_matrix(np.full((50, 40), 20.0, dtype=np.float32))
    kept = thinned(counts, 0.3, np.random.default_rng(0))
    assert kept.sum() == pytest.approx(0.3 * counts.sum(), rel=0.02)
    assert (kept.toarray() <= 20).all()
    assert (counts.data == 20).all()


def test_scales_are_those_of_the_batch_where_it_has_measured_enough() -> None:
    cells = draw(2)
    scales = ProteinScales.learn(cells, n_batches=3)
    first = np.log1p(cells.protein[cells.batch == 0])
    assert np.allclose(scales.batch_centre[0], first.mean(axis=0), atol=1e-5)
    assert np.allclose(scales.batch_spread[0], first.std(axis=0), atol=1e-5)
    # The second batch lacks the last protein; the third has no cell.
    assert scales.batch_centre[1, -1] == scales.centre[-1]
    assert np.array_equal(scales.batch_centre[2], scales.centre)
    assert np.allclose(scales.within_batch(cells)[cells.batch == 0].mean(axis=0), 0, atol=1e-4)


def test_cross_fitted_regressions_have_not_seen_the_cell() -> None:
    cells = draw(3)
    noise = replace(cells, label=np.random.default_rng(0).integers(N_LABELS, size=N_CELLS))
    targets = Targets(cells.protein, cells.measured, noise.label, N_LABELS)
    normalised = log_normalised(cells.rna)
    (crossed,) = cross_fitted_regressions([normalised], targets)
    fitted = Projection.fit(normalised, targets)
    own = (normalised.toarray() - fitted.centre) @ fitted.weights[:, -N_LABELS:] + fitted.offset[-N_LABELS:]
    # Labels that are pure noise can be memorised, and not predicted.
    assert (own.argmax(axis=1) == noise.label).mean() > 0.6
    assert (crossed[:, -N_LABELS:].argmax(axis=1) == noise.label).mean() < 0.5


def test_an_ensemble_answers_with_every_panel(readout: Readout) -> None:
    cells = draw(4)
    for measured in (cells.measured, np.zeros_like(cells.measured), cells.measured & (np.arange(N_PROTEINS) < 2)):
        log_probabilities, proteins, components, evidence = ask(readout, cells, measured)
        assert (log_probabilities.argmax(axis=1) == cells.label).mean() > 0.95
        assert np.allclose(np.exp(log_probabilities).sum(axis=1), 1, atol=1e-5)
        assert proteins.shape == (N_CELLS, N_PROTEINS)
        assert components.shape == (N_CELLS, readout.network.dims.n_components)
        assert evidence.shape == (N_CELLS, 1)


def test_members_do_not_make_certain_what_the_linear_part_doubts(readout: Readout) -> None:
    network, cells = readout.network, draw(13)
    rna, nothing = torch.from_numpy(cells.rna.toarray()), torch.zeros(N_CELLS, N_PROTEINS)
    with torch.no_grad():
        projected = network.project(rna, rna.sum(dim=1, keepdim=True), *network.every_gene)
        linear, members = network.opinions(projected[None], nothing[None], nothing[None])
        log_probabilities, proteins = network.answer(projected, nothing, nothing)
    of_linear, of_members = (torch.softmax(each[..., N_PROTEINS:], dim=-1) for each in (linear[0], members))
    assert torch.allclose(log_probabilities.exp(), of_linear / 3 + of_members.mean(dim=0) * 2 / 3, atol=1e-5)
    shares = network.protein_shares
    assert (shares >= 0).all()
    assert shares.sum() == pytest.approx(1, abs=1e-5)
    assert len(shares) == 1 + network.dims.n_members
    pooled = torch.einsum("e,ecp->cp", shares, torch.cat([linear, members])[..., :N_PROTEINS])
    assert torch.allclose(proteins, pooled, atol=1e-4)


def test_no_member_sees_every_cell() -> None:
    seen = _seen(100, n_members=6)
    assert seen.shape == (6, 90)
    left_out = [set(range(100)) - set(each.tolist()) for each in seen]
    # Of both kinds, one after the other, the same are left out, so that they can be compared on them.
    assert left_out[0] == left_out[1]
    assert len(left_out[0] | left_out[2] | left_out[4]) == 30


def test_few_cells_and_many_proteins_are_fitted_with_caution() -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(2, size=60)
    logits = np.eye(2)[label] + rng.standard_normal((60, 2))
    protein = rng.standard_normal((60, 300)).astype(np.float32)
    measured = np.ones(protein.shape, dtype=bool)
    weights, intercept = fit_panel_labels(protein, measured, protein, logits.astype(np.float32), label, rng)
    fresh = rng.integers(2, size=2000)
    features = np.hstack([rng.standard_normal((2000, 300)), np.eye(2)[fresh] + rng.standard_normal((2000, 2))])
    odds = (features @ weights + intercept) @ [-1, 1]
    loss = np.log1p(np.exp(np.where(fresh == 1, -odds, odds))).mean()
    # Three hundred columns of noise tell the sixty cells apart; what they teach is worth less than nothing.
    assert loss < np.log(2)


def test_proteins_are_predicted_on_the_scale_of_each_batch(readout: Readout) -> None:
    cells = draw(5)
    standardised = ask(readout, cells, np.zeros_like(cells.measured))[1]
    for batch in (0, 1):
        rows = cells.batch == batch
        logs = standardised[rows] * readout.batch_spread[batch] + readout.batch_centre[batch]
        expected = np.exp(logs) * readout.protein_smear
        measured = cells.measured[rows].all(axis=0)
        assert expected[:, measured].mean() == pytest.approx(cells.protein[rows][:, measured].mean(), rel=0.1)


def test_a_gene_that_was_not_measured_counts_as_average(readout: Readout) -> None:
    cells = draw(6)
    rna = torch.from_numpy(cells.rna.toarray())
    present = torch.ones(1, N_GENES)
    present[:, :20] = 0
    network, library = readout.network, rna.sum(dim=1, keepdim=True)
    average = network.projection_centre
    normalised = torch.log1p(rna * (1e4 / library))
    filled = torch.where(present.bool(), normalised, average)
    expected = (filled - average) @ network.projection + network.projection_offset
    assert torch.allclose(
        network.project(rna * present, library, present, network.every_gene[1]), expected, rtol=1e-4, atol=1e-3
    )


def test_gaussians_lie_where_their_labels_do() -> None:
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0, 0.0], [6.0, 0.0, 0.0]])
    label = rng.integers(2, size=400)
    features = centres[label] + rng.standard_normal((400, 3))
    density = LabelDensity.fit(features, np.ones_like(features, dtype=bool), label, n_labels=3)
    assert np.allclose(density.mean[:2], centres, atol=0.3)
    assert np.allclose(density.covariance[:2], np.eye(3), atol=0.3)
    assert np.allclose(density.shared_covariance, np.eye(3), atol=0.3)
    # A label without cells lies where all do, and is no nearer to anything than the others' spread makes it.
    assert np.allclose(density.mean[2], features.mean(axis=0), atol=1e-5)


def test_the_same_seed_gives_the_same_readout(readout: Readout) -> None:
    first, second, other = (
        each.to_arrays() for each in (readout, *(fit_readout(draw(1), N_LABELS, 2, seed=seed) for seed in (3, 4)))
    )
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert not np.array_equal(first["network.first"], other["network.first"])


def test_a_label_without_cells_is_never_the_likeliest() -> None:
    cells = draw(8)
    found = fit_readout(cells, N_LABELS + 1, 2)
    assert (ask(found, draw(9))[0].argmax(axis=1) < N_LABELS).all()


def test_a_readout_survives_its_arrays(readout: Readout) -> None:
    again = Readout.from_arrays(readout.to_arrays())
    cells = draw(10)
    for one, other in zip(ask(readout, cells), ask(again, cells), strict=True):
        assert np.array_equal(one, other)


def test_leaving_out_what_nobody_measured_changes_nothing() -> None:
    cells = draw(11)
    nobody = np.arange(N_PROTEINS) == 2
    cells = replace(cells, protein=cells.protein * ~nobody, measured=cells.measured & ~nobody)
    whole = fit_readout(cells, N_LABELS, 2)
    kept = np.flatnonzero(~nobody)
    part = whole.keeping(kept)
    query = draw(12)
    rest = replace(query, protein=query.protein[:, kept], measured=query.measured[:, kept])
    found, expected = ask(part, rest), ask(whole, query, query.measured & ~nobody)
    for name, one, other in zip(("labels", "proteins", "components", "evidence"), found, expected, strict=True):
        assert np.allclose(one, other[:, kept] if name == "proteins" else other, atol=1e-4), name
    assert part.density.mean.shape == (N_LABELS, part.network.dims.n_components + len(kept))
    assert (np.linalg.eigvalsh(part.density.covariance.astype(np.float64)) > 0).all()


def test_a_model_keeps_its_readout(checkpoint: Path, reference_mdata: md.MuData, tmp_path: Path) -> None:
    model = TOTALANVI.load(checkpoint, adata=reference_mdata)
    model.fit_readout()
    found = model.predict(soft=True, use_readout=True)
    model.save(tmp_path / "checkpoint")
    again = TOTALANVI.load(tmp_path / "checkpoint", adata=reference_mdata)
    assert found.equals(again.predict(soft=True, use_readout=True))
    assert not found.equals(model.predict(soft=True))
    known = reference_mdata["rna"].obs["cell_type"].astype(str).loc[lambda label: label != "unknown"]
    assert (found.idxmax(axis=1)[known.index] == known).mean() > 0.95


def test_training_again_forgets_the_readout(checkpoint: Path, reference_mdata: md.MuData) -> None:
    model = TOTALANVI.load(checkpoint, adata=reference_mdata)
    model.fit_readout()
    model.train(max_epochs=1, progress=False)
    assert model.readout is None


@pytest.mark.parametrize("attributions", [False, True])
def test_a_readout_that_cannot_answer_is_refused(
    checkpoint: Path, reference_mdata: md.MuData, attributions: bool
) -> None:
    model = TOTALANVI.load(checkpoint, adata=reference_mdata)
    model.readout = None
    with pytest.raises(ArgumentError, match="use_readout"):
        model.predict(use_readout=True, ig_interpretability=attributions)


def test_cells_are_drawn_from_a_large_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "_MOST_CELLS", 100)
    monkeypatch.setattr(fitting, "_LEAST_OF_A_LABEL", 5)
    label = np.repeat([0, 1, 2, -1], [5000, 4, 40, 1000])
    kept = label[fitting._drawn(label, np.random.default_rng(0))]
    assert (kept == 1).sum() == 4
    assert (kept == 2).sum() >= 5
    assert 100 <= len(kept) <= 110
