"""Denoised expression and foreground probabilities, in every form that can be asked for."""

from __future__ import annotations

from typing import Any

import mudata as md
import numpy as np
import pandas as pd
import torch

from totalanvi.training import TOTALANVI, TOTALVI


def test_expression_has_names_and_ranges(trained: TOTALANVI, reference_mdata: md.MuData) -> None:
    genes, proteins = trained.get_normalized_expression(n_samples=2)
    assert genes.shape == (400, 160)
    assert proteins.shape == (400, 12)
    assert genes.columns.tolist() == reference_mdata["rna"].var_names.tolist()
    assert proteins.columns.tolist() == reference_mdata["prot"].var_names.tolist()
    assert genes.index.equals(reference_mdata["rna"].obs_names)
    assert np.allclose(genes.sum(axis=1), 1.0, atol=1e-4)
    assert (proteins.to_numpy() >= 0).all()


def test_expression_follows_what_was_simulated(trained: TOTALANVI, reference_mdata: md.MuData) -> None:
    _, proteins = trained.get_normalized_expression(n_samples=5)
    truth = np.log1p(reference_mdata["prot"].layers["foreground_mean"])
    varied = truth.std(axis=0) > 1
    found = np.log1p(proteins.to_numpy())
    correlation = [np.corrcoef(found[:, i], truth[:, i])[0, 1] for i in np.flatnonzero(varied)]
    assert np.mean(correlation) > 0.6


def test_the_background_is_added_on_request(trained: TOTALANVI) -> None:
    without, included = (
        seeded(trained, include_protein_background=included, return_numpy=True)[1] for included in (False, True)
    )
    assert (included > without).all()


def seeded(model: TOTALVI, **options: Any) -> Any:
    torch.manual_seed(0)
    return model.get_normalized_expression(**options)


def test_features_are_chosen_by_name(trained: TOTALANVI, reference_mdata: md.MuData) -> None:
    wanted_genes, wanted_proteins = list(reference_mdata["rna"].var_names[[7, 2]]), ["CD503", "CD501"]
    genes, proteins = seeded(trained, gene_list=wanted_genes, protein_list=wanted_proteins)
    assert genes.columns.tolist() == wanted_genes
    assert proteins.columns.tolist() == wanted_proteins
    every_gene, every_protein = seeded(trained)
    assert np.allclose(genes, every_gene[wanted_genes], rtol=1e-5)
    assert np.allclose(proteins, every_protein[wanted_proteins], rtol=1e-5)
    no_genes, proteins = seeded(trained, gene_list=[])
    assert no_genes.shape == (400, 0)
    assert np.allclose(proteins, every_protein, rtol=1e-5)


def test_libraries(trained: TOTALANVI, reference_mdata: md.MuData) -> None:
    shares = seeded(trained, return_numpy=True)[0]
    per_million = seeded(trained, return_numpy=True, library_size=1e6)[0]
    assert np.allclose(per_million, 1e6 * shares, rtol=1e-4)
    own = seeded(trained, return_numpy=True, library_size="latent")[0]
    assert np.allclose(own.sum(axis=1), np.asarray(reference_mdata["rna"].X.sum(axis=1)).ravel(), rtol=1e-3)


def test_decoding_as_other_batches(trained: TOTALANVI, reference_mdata: md.MuData) -> None:
    one, two = (seeded(trained, transform_batch=batch, return_numpy=True) for batch in ("batch1", "batch2"))
    both = seeded(trained, transform_batch=["batch1", "batch2"], return_numpy=True)
    own = seeded(trained, return_numpy=True)
    by_code = seeded(trained, transform_batch=np.int64(1), return_numpy=True)
    first = (reference_mdata["rna"].obs["batch"] == "batch1").to_numpy()
    for part in (0, 1):
        assert not np.allclose(one[part], two[part], rtol=1e-3)
        assert np.allclose(both[part], (one[part] + two[part]) / 2, rtol=1e-4, atol=1e-7)
        assert np.allclose(own[part], np.where(first[:, None], one[part], two[part]), rtol=1e-4, atol=1e-7)
        assert np.allclose(by_code[part], two[part])


def test_draws_are_averaged_or_kept(trained: TOTALANVI) -> None:
    genes, proteins = seeded(trained, indices=range(20), n_samples=3, return_mean=False)
    assert genes.shape == (20, 160, 3)
    assert proteins.shape == (20, 12, 3)
    mean_genes, mean_proteins = seeded(trained, indices=range(20), n_samples=3)
    assert isinstance(mean_genes, pd.DataFrame)
    assert np.allclose(genes.mean(axis=2), mean_genes, rtol=1e-4)
    assert np.allclose(proteins.mean(axis=2), mean_proteins, rtol=1e-4)
    assert not np.allclose(genes[..., 0], genes[..., 1], rtol=1e-3)


def test_proteins_may_sum_to_one_or_be_on_or_off(trained: TOTALANVI) -> None:
    scaled = seeded(trained, scale_protein=True, return_numpy=True)[1]
    assert np.allclose(scaled.sum(axis=1), 1.0, atol=1e-4)
    mixed = seeded(trained, sample_protein_mixing=True, return_numpy=True)[1]
    assert (mixed == 0).any()


def test_foreground_probability(trained: TOTALANVI, reference_mdata: md.MuData) -> None:
    probability = trained.get_protein_foreground_probability()
    assert probability.shape == (400, 12)
    assert probability.columns.tolist() == reference_mdata["prot"].var_names.tolist()
    assert ((probability > 0) & (probability < 1)).all().all()
    torch.manual_seed(0)
    draws = trained.get_protein_foreground_probability(
        indices=range(9), protein_list=["CD502"], n_samples=4, return_mean=False, transform_batch="batch1"
    )
    assert draws.shape == (9, 1, 4)
    torch.manual_seed(0)
    mean = trained.get_protein_foreground_probability(
        indices=range(9), protein_list=["CD502"], n_samples=4, transform_batch="batch1", return_numpy=True
    )
    assert np.allclose(draws.mean(axis=2), mean, atol=1e-5)


def test_expression_without_a_user_seed_differs_from_draw_to_draw(trained: TOTALANVI) -> None:
    one, other = (trained.get_normalized_expression(return_numpy=True)[0] for _ in range(2))
    assert not np.array_equal(one, other)
