"""The script of somebody who comes from scvi-tools: every call as it was there, its answer held against the truth."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata as ad
import mudata as md
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from tests.support.threads import one_thread

from totalanvi.training import TOTALANVI, TOTALVI, simulate
from totalanvi.training.simulation.simulate import simulate_query

TISSUE: dict[str, Any] = {"n_genes": 150, "n_proteins": 12, "n_labels": 4, "n_batches": 2, "seed": 1}
MODALITIES = {"rna_layer": "rna", "protein_layer": "prot", "batch_key": "rna", "labels_key": "rna"}
SIZE: dict[str, Any] = {"n_latent": 8, "n_hidden": 64}
BRIEFLY: dict[str, Any] = {"max_epochs": 40, "batch_size": 32, "accelerator": "cpu", "check_val_every_n_epoch": 1}
N_CELLS, N_GENES, N_PROTEINS = 400, 150, 12


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """One thread, since models this small are slower on several; and the same draws every time."""
    with one_thread():
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="module")
def tissue() -> md.MuData:
    """The reference's cells, all they are known to be included. Not to be changed."""
    return simulate(n_cells=N_CELLS, **TISSUE)


@pytest.fixture(scope="module")
def query_tissue() -> md.MuData:
    """Cells of the same types from another batch. Not to be changed."""
    return simulate_query(n_cells=200, **TISSUE, unseen=0.0, without_proteins=0.0)


def as_adata(mdata: md.MuData) -> ad.AnnData:
    """Return the same cells with proteins in ``obsm``."""
    adata = mdata["rna"].copy()
    prot = mdata["prot"]
    adata.obsm["protein_expression"] = pd.DataFrame(prot.X.toarray(), index=prot.obs_names, columns=prot.var_names)
    return adata


def counts(mdata: md.MuData) -> npt.NDArray[np.float64]:
    """Counts of genes, then of proteins, (cells, features)."""
    return np.hstack([mdata[part].X.toarray() for part in ("rna", "prot")]).astype(float)


def types(mdata: md.MuData) -> npt.NDArray[np.str_]:
    return mdata["rna"].obs["cell_type"].to_numpy(str)


# What is asked of either class, and what the truth has to say to it


def check_latent(model: TOTALVI, tissue: md.MuData) -> None:
    latent = model.get_latent_representation()
    assert latent.shape == (N_CELLS, 8)
    neighbours = KNeighborsClassifier(10).fit(latent[::2], types(tissue)[::2])
    assert neighbours.score(latent[1::2], types(tissue)[1::2]) > 0.85
    drawn = model.get_latent_representation(give_mean=False)
    assert not np.array_equal(drawn, latent)
    means, variances = model.get_latent_representation(return_dist=True)
    assert np.allclose(means, latent, atol=1e-5)
    assert (variances > 0).all()
    # Half of a normal distribution lies within 0.674 standard deviations.
    within = np.abs(drawn - means) < 0.674 * np.sqrt(variances)
    assert within.mean() == pytest.approx(0.5, abs=0.05)


def check_expression(model: TOTALVI, tissue: md.MuData) -> None:
    genes, proteins = model.get_normalized_expression(n_samples=5, return_mean=True)
    assert genes.index.equals(tissue["rna"].obs_names)
    assert list(genes.columns) == list(tissue["rna"].var_names)
    assert list(proteins.columns) == list(tissue["prot"].var_names)
    assert np.allclose(genes.sum(axis=1), 1, atol=1e-3)
    foreground = np.log1p(tissue["prot"].layers["foreground_mean"])
    follows = [np.corrcoef(np.log1p(proteins[name]), foreground[:, i])[0, 1] for i, name in enumerate(proteins)]
    assert np.mean(follows) > 0.65

    both, _ = model.get_normalized_expression(transform_batch=["batch1", "batch2"], n_samples=25)
    each = [model.get_normalized_expression(transform_batch=b, n_samples=25)[0] for b in ("batch1", "batch2")]
    differs = np.abs(np.log(each[0].mean() / each[1].mean())) > 0.1
    assert differs.any()
    assert np.allclose(both.mean(), (each[0].mean() + each[1].mean()) / 2, rtol=0.05)

    wanted_genes, wanted_proteins = list(genes.columns[:5]), list(proteins.columns[2:5])
    few_genes, few_proteins = model.get_normalized_expression(
        indices=[1, 2, 3], gene_list=wanted_genes, protein_list=wanted_proteins, library_size=1e4, n_samples=25
    )
    assert list(few_genes.columns) == wanted_genes
    assert list(few_proteins.columns) == wanted_proteins
    assert np.corrcoef(few_genes.to_numpy().ravel(), genes.iloc[1:4, :5].to_numpy().ravel())[0, 1] > 0.8
    kept = model.get_normalized_expression(indices=[1, 2, 3], n_samples=4, return_mean=False)
    assert [array.shape for array in kept] == [(3, N_GENES, 4), (3, N_PROTEINS, 4)]
    in_counts, _ = model.get_normalized_expression(library_size="latent")
    library = tissue["rna"].X.toarray().sum(axis=1)
    assert spearmanr(in_counts.sum(axis=1), library).statistic > 0.8
    assert spearmanr(model.get_latent_library_size().ravel(), library).statistic > 0.8
    assert model.get_latent_library_size(indices=[1, 2, 3]).shape == (3, 1)


def check_foreground(model: TOTALVI, tissue: md.MuData) -> None:
    probability = model.get_protein_foreground_probability(transform_batch=["batch1", "batch2"], n_samples=3)
    assert probability.shape == (N_CELLS, N_PROTEINS)
    assert probability.to_numpy().min() >= 0
    assert probability.to_numpy().max() <= 1
    on = tissue["prot"].layers["foreground_mean"] > 0
    assert roc_auc_score(on.ravel(), probability.to_numpy().ravel()) > 0.9
    assert probability.to_numpy()[on].mean() > 2 * probability.to_numpy()[~on].mean()


def check_drawn_counts(model: TOTALVI, tissue: md.MuData, names: tuple[str, str]) -> None:
    drawn = model.posterior_predictive_sample(n_samples=3)
    assert set(drawn) == set(names)
    assert drawn[names[0]].shape == (N_CELLS, N_GENES, 3)
    assert drawn[names[1]].shape == (N_CELLS, N_PROTEINS, 3)
    one = model.posterior_predictive_sample(
        indices=[1, 2, 3], gene_list=list(tissue["rna"].var_names[:4]), protein_list=list(tissue["prot"].var_names[:2])
    )
    assert [one[name].shape for name in names] == [(3, 4), (3, 2)]
    together = np.concatenate([np.asarray(drawn[name]) for name in names], axis=1)
    assert (together >= 0).all()
    assert np.array_equal(together, together.round())
    # What is drawn for a cell looks like the cell, and each feature has its mean and its zeros.
    seen = counts(tissue)
    assert np.corrcoef(np.log1p(together.mean(axis=2)).ravel(), np.log1p(seen).ravel())[0, 1] > 0.8
    assert np.abs(np.median(np.log2(together.mean(axis=(0, 2))[N_GENES:] / seen.mean(axis=0)[N_GENES:]))) < 0.5
    assert (together[:, :N_GENES] == 0).mean() == pytest.approx((seen[:, :N_GENES] == 0).mean(), abs=0.05)


def check_differences(model: TOTALVI, tissue: md.MuData, adata: Any) -> None:
    of_type = types(tissue)
    first, second = np.unique(of_type)[[0, 2]]
    found = model.differential_expression(groupby="cell_type", group1=first, silent=True)
    features = [*tissue["rna"].var_names, *(f"{protein}_protein" for protein in tissue["prot"].var_names)]
    assert sorted(found.index) == sorted(features)
    assert set(found["comparison"]) == {f"{first} vs Rest"}
    assert found["proba_de"].is_monotonic_decreasing
    assert found["is_de_fdr_0.05"].dtype == bool
    found = found.loc[features]
    seen, inside = counts(tissue), of_type == first
    assert np.allclose(found["raw_mean1"], seen[inside].mean(axis=0), rtol=1e-4)
    assert np.allclose(found["raw_mean2"], seen[~inside].mean(axis=0), rtol=1e-4)

    foreground = tissue["prot"].layers["foreground_mean"]
    true = np.log2((foreground[inside].mean(axis=0) + 1) / (foreground[~inside].mean(axis=0) + 1))
    by_protein = found.iloc[N_GENES:]
    assert spearmanr(by_protein["lfc_mean"], true).statistic > 0.7
    strong = np.abs(true) > 2
    assert strong.any()
    # How many are found, and how far off, is held in tests/unit/training/test_differential_truth.py.
    assert (np.sign(by_protein["lfc_mean"]) == np.sign(true))[strong].mean() > 0.8
    assert by_protein["proba_de"][strong].mean() > by_protein["proba_de"][~strong].mean()
    share = seen[:, :N_GENES] / seen[:, :N_GENES].sum(axis=1, keepdims=True)
    common = seen[:, :N_GENES].mean(axis=0) > 0.3
    by_gene = np.log2((share[inside].mean(axis=0)[common] + 1e-5) / (share[~inside].mean(axis=0)[common] + 1e-5))
    assert np.corrcoef(found["lfc_mean"].iloc[:N_GENES][common], by_gene)[0, 1] > 0.5

    pair = model.differential_expression(adata, "cell_type", first, second, silent=True)
    by_cells = model.differential_expression(idx1=of_type == first, idx2=of_type == second, silent=True)
    assert set(pair["group1"]) == {first}
    assert set(pair["group2"]) == {second}
    assert np.corrcoef(pair.loc[features, "lfc_mean"], by_cells.loc[features, "lfc_mean"])[0, 1] > 0.95
    vanilla = model.differential_expression(
        groupby="cell_type", group1=first, group2=second, mode="vanilla", silent=True
    )
    assert spearmanr(vanilla.loc[features, "bayes_factor"], pair.loc[features, "lfc_mean"]).statistic > 0.6
    every = model.differential_expression(groupby="cell_type", batch_correction=True, silent=True)
    assert len(every) == len(np.unique(of_type)) * len(features)


def check_correlations(model: TOTALVI, tissue: md.MuData) -> None:
    """Proteins that are on in the same cells are correlated."""
    for how in ("spearman", "pearson"):
        found = model.get_feature_correlation_matrix(
            n_samples=3, correlation_type=how, transform_batch=["batch1", "batch2"], log_transform=True
        )
        assert list(found.index) == list(found.columns)
        assert list(found.index) == [*tissue["rna"].var_names, *tissue["prot"].var_names]
        assert np.allclose(found, found.T, atol=1e-5)
        assert np.allclose(np.diag(found), 1, atol=1e-5)
        of_proteins = found.iloc[N_GENES:, N_GENES:].to_numpy()
        true = np.corrcoef(np.log1p(tissue["prot"].layers["foreground_mean"]), rowvar=False)
        pairs = np.triu_indices(N_PROTEINS, 1)
        assert np.corrcoef(of_proteins[pairs], true[pairs])[0, 1] > 0.7


def check_likelihoods(model: TOTALVI, untrained: TOTALVI) -> None:
    """All in nats per cell. The ELBO is what it says, the higher the better; history holds it with its sign turned."""
    elbo = float(model.get_elbo())
    assert float(untrained.get_elbo()) < elbo < 0
    # The last epoch drew other samples of the same.
    of_training = model.history["elbo_train"].iloc[-1, 0]
    assert -float(model.get_elbo(indices=model.train_indices)) == pytest.approx(of_training, rel=0.1)
    error, before = model.get_reconstruction_error(), untrained.get_reconstruction_error()
    assert set(error) == {"reconst_loss_gene", "reconst_loss_protein"}
    assert all(0 < float(value) < float(before[name]) for name, value in error.items())
    assert sum(float(value) for value in error.values()) < -elbo
    likelihood = float(model.get_marginal_ll(n_mc_samples=20))
    # The ELBO is a bound of it, but for the noise of one draw.
    assert 1.02 * elbo < likelihood < 0
    assert np.isfinite(float(model.get_marginal_ll(indices=model.validation_indices, n_mc_samples=3)))


def check_query(query_model: TOTALVI, model: TOTALVI, tissue: md.MuData, query: md.MuData, reference: Any) -> None:
    """Cells of a new batch come to lie among their like, and those of the reference stay where they are."""
    latent = model.get_latent_representation()
    assert np.allclose(query_model.get_latent_representation(reference), latent, atol=1e-5)
    found = KNeighborsClassifier(10).fit(latent, types(tissue)).predict(query_model.get_latent_representation())
    assert (found == types(query)).mean() > 0.75


# The scripts


def test_totalvi(tissue: md.MuData, query_tissue: md.MuData, tmp_path: Path) -> None:
    adata = as_adata(tissue)
    TOTALVI.setup_anndata(adata, protein_expression_obsm_key="protein_expression", batch_key="batch")
    model = TOTALVI(adata, latent_distribution="normal", **SIZE)
    model.train(**BRIEFLY, train_size=0.8, lr=1e-2, n_epochs_kl_warmup=20)
    assert model.is_trained
    assert len(model.validation_indices) == N_CELLS // 5
    assert {"elbo_train", "elbo_validation", "reconstruction_loss_train", "kl_local_train"} <= model.history.keys()
    elbo = model.history["elbo_validation"]["elbo_validation"].to_numpy()
    assert elbo[-1] < elbo[0]

    check_latent(model, tissue)
    check_expression(model, tissue)
    check_foreground(model, tissue)
    check_drawn_counts(model, tissue, ("rna", "protein"))
    check_differences(model, tissue, adata)
    check_correlations(model, tissue)
    check_likelihoods(model, TOTALVI(adata, **SIZE))

    other = as_adata(tissue)[50:90].copy()
    genes, _ = model.get_normalized_expression(other, n_samples=10)
    of_all, _ = model.get_normalized_expression(indices=np.arange(50, 90), n_samples=10)
    assert np.corrcoef(genes.to_numpy().ravel(), of_all.to_numpy().ravel())[0, 1] > 0.95

    folder = str(tmp_path / "totalvi")
    model.save(folder, overwrite=True)
    loaded = TOTALVI.load(folder, adata=adata)
    assert loaded.is_trained
    assert np.array_equal(loaded.get_latent_representation(), model.get_latent_representation())

    # The query measured its genes in another order, some that the reference has not, and lacks some that it has.
    query = as_adata(query_tissue)[:, ::-1][:, 5:].copy()
    missing = adata.var_names[-5:]
    query.var_names = [f"novel {i}" if i < 3 else name for i, name in enumerate(query.var_names)]
    TOTALVI.prepare_query_anndata(query, folder)
    assert query.var_names.equals(adata.var_names)
    assert query[:, missing].X.sum() == 0
    query_model = TOTALVI.load_query_data(query, folder)
    query_model.train(max_epochs=15, batch_size=32, accelerator="cpu", plan_kwargs={"weight_decay": 0.0})
    check_query(query_model, model, tissue, query_tissue, adata)


def test_totalanvi(tissue: md.MuData, query_tissue: md.MuData, tmp_path: Path) -> None:
    mdata = tissue.copy()
    hidden = np.arange(N_CELLS) % 4 == 0
    mdata["rna"].obs["known_type"] = np.where(hidden, "unknown", types(tissue))
    TOTALANVI.setup_mudata(
        mdata, batch_key="batch", labels_key="known_type", unlabeled_category="unknown", modalities=MODALITIES
    )
    model = TOTALANVI(mdata, linear_classifier=True, **SIZE)
    model.train(
        **BRIEFLY, train_size=0.8, n_samples_per_label=50, plan_kwargs={"lr": 1e-2, "classification_ratio": 20.0}
    )
    assert {"elbo_validation", "validation_accuracy", "train_classification_loss"} <= model.history.keys()
    assert model.history["validation_accuracy"].iloc[-1, 0] > 0.8

    check_latent(model, tissue)
    check_expression(model, tissue)
    check_foreground(model, tissue)
    check_drawn_counts(model, tissue, ("rna", "prot"))
    check_differences(model, tissue, mdata)
    check_correlations(model, tissue)
    check_likelihoods(model, TOTALANVI(mdata, linear_classifier=True, **SIZE))

    labels = sorted(set(types(tissue)))
    hard = model.predict()
    assert (hard == types(tissue))[hidden].mean() > 0.85
    soft = model.predict(soft=True)
    assert sorted(soft.columns) == labels
    assert soft.index.equals(mdata["rna"].obs_names)
    assert np.allclose(soft.sum(axis=1), 1, atol=1e-5)
    assert np.array_equal(soft.idxmax(axis=1), hard)
    assert np.array_equal(model.predict(mdata, indices=[3, 1]), hard[[3, 1]])
    assert (model.predict(use_posterior_mean=False) == hard).mean() > 0.8
    again, attributions = model.predict(ig_interpretability=True, ig_args={"n_steps": 20})
    assert np.array_equal(again, hard)
    assert sorted(attributions["feature"]) == sorted([*mdata["rna"].var_names, *mdata["prot"].var_names])
    assert {"feature", "feature_idx", "modality", "attribution_mean", "attribution_std", "cells"} <= set(attributions)
    assert attributions["attribution_mean"].is_monotonic_decreasing
    assert set(attributions["cells"]) == {N_CELLS}
    # Proteins tell types apart, most genes do not.
    of_protein = attributions["feature"].isin(mdata["prot"].var_names)
    assert of_protein.head(N_PROTEINS).mean() > 3 * of_protein.mean()

    folder = str(tmp_path / "totalanvi")
    model.save(folder, overwrite=True)
    loaded = TOTALANVI.load(folder, adata=mdata)
    assert np.allclose(loaded.predict(soft=True), soft, atol=1e-6)

    query = query_tissue.copy()
    # Cells of a query have no label.
    for obs in (query.obs, query["rna"].obs, query["prot"].obs):
        del obs["cell_type"]
    TOTALANVI.prepare_query_mudata(query, folder)
    query_model = TOTALANVI.load_query_data(query, folder)
    query_model.train(max_epochs=15, batch_size=32, accelerator="cpu", plan_kwargs={"weight_decay": 0.0})
    check_query(query_model, model, tissue, query_tissue, mdata)
    assert (query_model.predict() == types(query_tissue)).mean() > 0.75
    assert np.allclose(query_model.predict(mdata, soft=True), soft, atol=1e-6)

    # The other way in: from a totalVI model, whose background stays as it is.
    adata = as_adata(tissue)
    adata.obs["known_type"] = np.where(hidden, "unknown", types(tissue))
    TOTALVI.setup_anndata(adata, protein_expression_obsm_key="protein_expression", batch_key="batch")
    totalvi = TOTALVI(adata, **SIZE)
    totalvi.train(**BRIEFLY, train_size=0.8, lr=1e-2)
    from_totalvi = TOTALANVI.from_totalvi_model(totalvi, unlabeled_category="unknown", labels_key="known_type")
    from_totalvi.train(max_epochs=10, batch_size=32, accelerator="cpu", train_size=0.8, plan_kwargs={"lr": 3e-3})
    assert (from_totalvi.predict() == types(tissue))[hidden].mean() > 0.8
    before, after = totalvi.module.background_pro_alpha, from_totalvi.module.background_pro_alpha
    assert np.array_equal(before.detach(), after.detach())
