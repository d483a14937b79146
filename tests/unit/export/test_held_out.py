"""What a bundle keeps of its reference: landmarks, distances, average profiles."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from totalanvi.export.held_out import evaluate, leave_one_out_distances
from totalanvi.export.query_modes import in_mode
from totalanvi.export.reference_cells import aligned, gene_share, protein_share
from totalanvi.export.source import Source, read_source
from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.modes import MODES
from totalanvi.serving.engine.engine import Engine
from totalanvi.serving.mapped import MapOptions
from totalanvi.training.data import Cells


@pytest.fixture(scope="module")
def source(checkpoint: Path) -> Source:
    return read_source(checkpoint)


@pytest.fixture(scope="module")
def opened(bundle: Path) -> Bundle:
    return Bundle.open(bundle)


def test_distances_are_those_of_held_out_cells(opened: Bundle, source: Source) -> None:
    """Of a bundle without a readout; its landmarks are those of the one with it."""
    plain = dataclasses.replace(opened, readout=None)
    landmarks = plain.reference.latent.astype(np.float64)
    engine, found = Engine(plain, provider="cpu"), evaluate(plain, source.sample).arrays
    for mode in MODES:
        _, cells = in_mode(source.sample.held_out, mode, plain.manifest.protein_batches)
        latent = engine.run(cells, MapOptions(impute=False)).latent
        distance = np.sort(np.linalg.norm(latent[:, None] - landmarks, axis=2), axis=1)[:, :15].mean(axis=1)
        np.testing.assert_allclose(found.novelty_scores(mode), np.sort(distance), rtol=1e-4)


def test_novelty_is_that_of_the_readout(opened: Bundle, source: Source) -> None:
    engine = Engine(opened, provider="cpu")
    for mode in MODES:
        _, cells = in_mode(source.sample.held_out, mode, opened.manifest.protein_batches)
        scores = engine.score(cells, MapOptions(impute=False))
        np.testing.assert_allclose(opened.calibration.novelty_scores(mode), np.sort(scores.novelty), rtol=1e-4)


def test_calibration_is_of_labelled_held_out_cells(opened: Bundle, source: Source) -> None:
    held_out = source.sample.held_out
    n_labelled = int((held_out.label >= 0).sum())
    assert 50 < n_labelled < len(held_out)
    engine = Engine(opened, provider="cpu")
    for mode, figures in opened.manifest.calibration.items():
        rows, cells = in_mode(held_out, mode, opened.manifest.protein_batches)
        mapped = engine.run(cells, MapOptions(impute=False))
        label = held_out.label[rows]
        known = label >= 0
        assert figures.n_cells == n_labelled
        assert figures.accuracy == pytest.approx((mapped.guess == label)[known].mean())
        own = mapped.probabilities[np.flatnonzero(known), label[known]]
        assert figures.log_loss == pytest.approx(-np.log(own).mean(), rel=1e-4)


def test_novelty_of_held_out_cells_is_spread_evenly(opened: Bundle, source: Source) -> None:
    novelty = Engine(opened, provider="cpu").run(aligned(source.sample.held_out), MapOptions(impute=False)).novelty
    assert novelty.mean() == pytest.approx(0.5, abs=0.05)


def test_without_held_out_cells_landmarks_stand_in(opened: Bundle, source: Source) -> None:
    sample = dataclasses.replace(source.sample, held_out=source.sample.held_out[slice(0, 0)])
    evaluation = evaluate(dataclasses.replace(opened, readout=None), sample)
    for mode in MODES:
        assert evaluation.calibration[mode].n_cells == 0
        assert evaluation.calibration[mode].temperature == 1
        n_seen = len(in_mode(sample.landmarks, mode, opened.manifest.protein_batches)[0])
        assert len(evaluation.arrays.novelty_scores(mode)) == n_seen >= len(sample.landmarks)
        assert evaluation.arrays.novelty_scores(mode)[0] > 0
        # Without any cell to judge by, every label fits and no interval is known.
        assert not len(evaluation.arrays.conformal_scores(mode))
    assert np.isnan(evaluation.arrays.interval_knots).all()
    # A cell that sees its own proteins lies nearer to where it is known to be.
    assert np.median(evaluation.arrays.novelty_protein) < np.median(evaluation.arrays.novelty_rna)
    # A readout scores them as it scores any cell.
    scores = Engine(opened, provider="cpu").score(aligned(sample.landmarks, with_proteins=False), MapOptions())
    np.testing.assert_allclose(evaluate(opened, sample).arrays.novelty_rna, np.sort(scores.novelty), rtol=1e-4)


def test_leave_one_out_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    landmarks = rng.normal(size=(30, 4)).astype(np.float32)
    latent = (landmarks + rng.normal(scale=0.1, size=(30, 4))).astype(np.float32)
    found = leave_one_out_distances(latent, landmarks, np.arange(30))
    for i in range(30):
        others = np.linalg.norm(latent[i] - np.delete(landmarks, i, axis=0), axis=1)
        assert found[i] == pytest.approx(np.sort(others)[:15].mean(), rel=1e-5)
    two = leave_one_out_distances(landmarks[:2], landmarks[:2], np.arange(2))
    np.testing.assert_allclose(two, np.linalg.norm(landmarks[0] - landmarks[1]), rtol=1e-5)


def cells(rna: list[list[float]], protein: list[list[float]], measured: list[list[int]]) -> Cells:
    codes = np.zeros(len(rna), dtype=np.int64)
    return Cells(
        rna=sp.csr_matrix(np.array(rna, dtype=np.float32)),
        protein=np.array(protein, dtype=np.float32),
        measured=np.array(measured, dtype=bool),
        batch=codes,
        panel=codes,
        label=codes,
    )


def test_shares_weigh_cells_alike() -> None:
    some = cells([[1, 1], [0, 1000], [0, 0]], [[5, 5], [0, 0], [30, 10]], [[1, 1], [0, 0], [1, 1]])
    np.testing.assert_allclose(gene_share(some), [0.25, 0.75])
    np.testing.assert_allclose(protein_share(some), [0.625, 0.375])


def test_shares_sum_to_one_when_there_is_nothing() -> None:
    nothing = cells([[0, 0]], [[0, 0]], [[0, 0]])
    np.testing.assert_allclose(gene_share(nothing), [0.5, 0.5])
    np.testing.assert_allclose(protein_share(nothing), [0.5, 0.5])
