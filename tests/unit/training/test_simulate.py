"""The simulator: what it promises about names, counts, difficulty and the truth it keeps."""

from __future__ import annotations

import mudata as md
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from totalanvi.training.errors import ArgumentError
from totalanvi.training.simulation.simulate import simulate, simulate_query

SMALL = {"n_genes": 200, "n_proteins": 10, "n_labels": 4}


@pytest.fixture(scope="module")
def reference() -> md.MuData:
    return simulate(seed=0)


@pytest.fixture(scope="module")
def query() -> md.MuData:
    return simulate_query(seed=0)


def log_normalised(counts: object) -> np.ndarray:
    dense = counts.toarray()
    return np.log1p(1000 * dense / dense.sum(axis=1, keepdims=True))


def test_the_same_seed_gives_the_same_data() -> None:
    first, again, other = (simulate(300, seed=seed, **SMALL) for seed in (5, 5, 6))
    for modality in ("rna", "prot"):
        assert (first[modality].X != again[modality].X).nnz == 0
        assert (first[modality].X != other[modality].X).nnz > 0
    assert first.obs.equals(again.obs)


def test_shapes_and_names(reference: md.MuData) -> None:
    assert reference["rna"].shape == (3000, 1000)
    assert reference["prot"].shape == (3000, 30)
    assert reference.obs["cell_type"].nunique() == 8
    assert reference.obs["batch"].nunique() == 2
    assert list(reference.obs_names) == list(reference["rna"].obs_names)
    for key in ("cell_type", "batch"):
        assert (reference.obs[key] == reference["rna"].obs[key]).all()
    for names in (reference.obs_names, reference.var_names, reference["rna"].var_names, reference["prot"].var_names):
        assert names.is_unique
    assert set(reference["prot"].var["gene"]) <= set(reference["rna"].var_names)


def test_many_genes_and_labels_keep_unique_names() -> None:
    large = simulate(60, n_genes=10_000, n_proteins=5, n_labels=50, n_batches=3)
    assert large["rna"].var_names.is_unique
    assert large.obs["cell_type"].nunique() == 50


def test_counts_are_raw_and_sparse(reference: md.MuData) -> None:
    for modality in ("rna", "prot"):
        counts = reference[modality].X
        assert counts.format == "csr"
        assert counts.dtype == np.float32
        assert np.all(counts.data >= 1)
        assert np.array_equal(counts.data, np.round(counts.data))
    zeros = 1 - reference["rna"].X.nnz / np.prod(reference["rna"].shape)
    assert 0.85 < zeros < 0.93
    library = np.asarray(reference["rna"].X.sum(axis=1)).ravel()
    assert library.min() > 0
    assert 0.3 < np.log(library).std() < 0.8


def test_batches_differ_within_a_type(reference: md.MuData) -> None:
    rna = reference["rna"]
    commonest = rna.obs["cell_type"].value_counts().index[0]
    cells = log_normalised(rna.X)[rna.obs["cell_type"] == commonest]
    batch = rna.obs.loc[rna.obs["cell_type"] == commonest, "batch"].to_numpy() == "batch1"
    shuffled = np.random.default_rng(0).permutation(batch)
    between, by_chance = (
        np.abs(cells[groups].mean(axis=0) - cells[~groups].mean(axis=0)).mean() for groups in (batch, shuffled)
    )
    assert between > 1.5 * by_chance


def test_types_can_be_told_apart_but_not_perfectly(reference: md.MuData) -> None:
    features, labels = log_normalised(reference["rna"].X), reference["rna"].obs["cell_type"].to_numpy()
    model = LogisticRegression(C=0.05, max_iter=300, tol=0.01).fit(features[:2400], labels[:2400])
    assert 0.93 < model.score(features[2400:], labels[2400:]) < 0.98


def test_proteins_follow_the_kept_truth(reference: md.MuData) -> None:
    prot = reference["prot"]
    mean = prot.layers["foreground_mean"] + prot.layers["background_mean"]
    observed = prot.X.toarray()
    assert np.allclose(observed.mean(axis=0), mean.mean(axis=0), rtol=0.1)
    for protein in range(prot.n_vars):
        assert np.corrcoef(np.log1p(observed[:, protein]), np.log1p(mean[:, protein]))[0, 1] > 0.7


def test_the_gene_of_a_protein_follows_it_loosely(reference: md.MuData) -> None:
    prot = reference["prot"]
    genes = log_normalised(reference["rna"].X)[:, reference["rna"].var_names.get_indexer(prot.var["gene"])]
    mean = np.log1p(prot.layers["foreground_mean"])
    varied = mean.std(axis=0) > 1
    correlation = [np.corrcoef(genes[:, i], mean[:, i])[0, 1] for i in np.flatnonzero(varied)]
    assert 0.1 < np.mean(correlation) < 0.8


def test_a_query_is_another_batch_with_a_type_the_reference_never_saw(reference: md.MuData, query: md.MuData) -> None:
    assert list(query["rna"].var_names) == list(reference["rna"].var_names)
    assert list(query["prot"].var_names) == list(reference["prot"].var_names)
    assert set(query.obs["batch"]).isdisjoint(reference.obs["batch"])
    unseen = query.uns["simulation"]["unseen_label"]
    assert set(query.obs["cell_type"]) - set(reference.obs["cell_type"]) == {unseen}
    assert (query.obs["cell_type"] == unseen).mean() == pytest.approx(0.1)
    assert query["prot"].n_obs == 700
    assert query["rna"].n_obs == query.n_obs == 1000
    in_both = query["prot"].obs
    assert (query.obs.loc[in_both.index, "cell_type"] == in_both["cell_type"]).all()


def test_a_query_shares_the_profiles_of_its_reference(reference: md.MuData, query: md.MuData) -> None:
    def profile(data: md.MuData, label: str) -> np.ndarray:
        return log_normalised(data["rna"][data["rna"].obs["cell_type"] == label].X).mean(axis=0)

    labels = list(reference["rna"].obs["cell_type"].cat.categories)
    known = np.stack([profile(reference, label) for label in labels])
    for i, label in enumerate(labels):
        similarity = [np.corrcoef(profile(query, label), row)[0, 1] for row in known]
        assert np.argmax(similarity) == i


def test_data_can_be_written_and_read(tmp_path, query: md.MuData) -> None:
    query.write(tmp_path / "query.h5mu")
    read = md.read(tmp_path / "query.h5mu")
    assert (read["rna"].X != query["rna"].X).nnz == 0
    assert read["prot"].n_obs == 700


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_cells": 0}, "n_cells: expected a whole number of at least 1, found 0"),
        ({"n_labels": 1}, "n_labels: expected a whole number of at least 2, found 1"),
        ({"n_proteins": 40, "n_genes": 30}, "n_proteins: expected at most one for each of 30 genes"),
        ({"seed": -1}, "seed: expected a whole number of at least 0"),
    ],
)
def test_sizes_that_cannot_be(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        simulate(**arguments)


def test_a_share_that_is_none() -> None:
    with pytest.raises(ArgumentError, match=r"unseen: expected a number of at least 0 and at most 1, found 1\.5"):
        simulate_query(10, unseen=1.5)
