"""Thresholds come from the reference's own cells: what they lose with genes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from totalanvi.export.ablation import ablate_genes, thresholds_of
from totalanvi.export.gene_weight import gene_weight
from totalanvi.export.reference_cells import aligned
from totalanvi.export.source import Source, read_source
from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.thresholds import AblationPoint, GeneAblation, Thresholds
from totalanvi.serving.engine.engine import Engine
from totalanvi.serving.mapped import MapOptions
from totalanvi.training.checkpoints.reference_sample import ReferenceSample


@pytest.fixture(scope="module")
def source(checkpoint: Path) -> Source:
    return read_source(checkpoint)


@pytest.fixture(scope="module")
def engine(bundle: Path) -> Engine:
    return Engine(Bundle.open(bundle), provider="cpu")


def curve(*points: tuple[float, float], chance: float = 0.2) -> GeneAblation:
    return GeneAblation(
        n_cells=100,
        held_out=True,
        chance=chance,
        curve=[AblationPoint(gene_weight=weight, accuracy=accuracy) for weight, accuracy in points],
    )


def test_the_manifest_says_where_thresholds_come_from(engine: Engine, source: Source) -> None:
    thresholds = engine.bundle.manifest.thresholds
    ablation = thresholds.ablation
    assert ablation is not None
    held_out = source.sample.held_out
    known = held_out.label >= 0
    assert (ablation.n_cells, ablation.held_out) == (known.sum(), True)
    assert ablation.chance == np.bincount(held_out.label[known]).max() / known.sum()
    weights = [point.gene_weight for point in ablation.curve]
    accuracies = [point.accuracy for point in ablation.curve]
    assert weights == sorted(weights)
    assert accuracies == sorted(accuracies)
    assert weights[-1] == 1
    mapped = engine.run(aligned(held_out, with_proteins=False), MapOptions(impute=False))
    assert accuracies[-1] == pytest.approx((mapped.guess == held_out.label)[known].mean(), abs=0.03)
    # A model of simulated markers does lose what it cannot see.
    assert accuracies[0] < accuracies[-1] - 0.1
    assert 0 < thresholds.gene_weight_refuse < thresholds.gene_weight_warn < 1


def test_without_labelled_held_out_cells_landmarks_are_taken(engine: Engine, source: Source) -> None:
    sample = source.sample
    unlabelled = replace(sample.held_out, label=np.full_like(sample.held_out.label, -1))
    found = ablate_genes(engine, ReferenceSample(sample.landmarks, unlabelled))
    assert not found.held_out
    assert found.n_cells == (sample.landmarks.label >= 0).sum()


def test_without_any_labelled_cell_no_query_is_refused(engine: Engine, source: Source) -> None:
    sample = source.sample
    parts = [replace(cells, label=np.full_like(cells.label, -1)) for cells in (sample.landmarks, sample.held_out)]
    found = ablate_genes(engine, ReferenceSample(*parts))
    assert found is None
    assert thresholds_of(found) == Thresholds(gene_weight_warn=0, gene_weight_refuse=0)


def test_genes_are_drawn_alike_every_time(engine: Engine, source: Source) -> None:
    found = ablate_genes(engine, source.sample)
    assert found == engine.bundle.manifest.thresholds.ablation


def test_thresholds_are_where_two_and_ten_points_are_lost() -> None:
    found = thresholds_of(curve((0.1, 0.5), (0.4, 0.8), (0.5, 0.9), (1.0, 0.95)))
    assert found.gene_weight_warn == pytest.approx(0.5 + 0.5 * 0.6)
    assert found.gene_weight_refuse == pytest.approx(0.4 + 0.1 * 0.5)


def test_less_than_chance_is_refused_where_it_is_reached_first() -> None:
    found = thresholds_of(curve((0.1, 0.5), (0.5, 0.9), (1.0, 0.95), chance=0.9))
    assert found.gene_weight_refuse == pytest.approx(0.5)


@pytest.mark.parametrize("chance", [0.1, 0.9])
def test_a_model_that_loses_nothing_is_trusted_as_far_as_was_measured(chance: float) -> None:
    found = thresholds_of(curve((0.02, 0.9), (0.5, 0.9), (1.0, 0.9), chance=chance))
    assert (found.gene_weight_warn, found.gene_weight_refuse) == (0.02, 0.02)


def test_weight_is_what_the_first_layer_takes_from_a_gene(source: Source) -> None:
    cells = source.sample.landmarks[:20]
    weight = gene_weight(source.module, cells)
    assert weight.sum() == pytest.approx(1, abs=1e-5)
    assert weight.min() >= 0
    inputs = source.module.encoder
    library = cells.rna.sum(axis=1)
    scaled = np.log1p(cells.rna.toarray() / (1 + library / cells.rna.shape[1]))
    by_hand = np.linalg.norm(inputs.rna_in.weight.detach().numpy(), axis=0) * np.asarray(scaled).mean(axis=0)
    np.testing.assert_allclose(weight, by_hand / by_hand.sum(), rtol=1e-4)


def test_a_gene_that_no_cell_has_weighs_nothing(source: Source) -> None:
    cells = source.sample.landmarks[:20]
    rna = cells.rna.tolil()
    rna[:, 7] = 0
    assert gene_weight(source.module, replace(cells, rna=rna.tocsr()))[7] == 0
