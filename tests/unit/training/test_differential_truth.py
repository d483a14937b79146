"""Differential expression of cells whose differences are known: what is found, how large, how much of it is false."""

from __future__ import annotations

from typing import Any

import anndata as ad
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score
from tests.support.differing_cells import draw_differing_cells
from tests.support.reference_cells import FAST, PROTEINS

from totalanvi.training import TOTALVI

WITH_FOREGROUND = 18
"""The first proteins; the others are background alone."""


@pytest.fixture(scope="module")
def cells() -> ad.AnnData:
    """Not to be changed."""
    return draw_differing_cells()


@pytest.fixture(scope="module")
def model(cells: ad.AnnData) -> TOTALVI:
    """Trained for a few seconds. Not to be changed."""
    TOTALVI.setup_anndata(cells, PROTEINS, batch_key="batch")
    # Batch norm finds two groups within fewer steps than layer norm.
    model = TOTALVI(cells, n_latent=5, n_hidden=32, use_batch_norm="both", use_layer_norm="none")
    model.train(max_epochs=15, batch_size=32, lr=1e-2, **FAST)
    return model


def b_against_a(model: TOTALVI, **options: Any) -> pd.DataFrame:
    return compared(model, groupby="group", group1="B", group2="A", **{"batch_correction": True, **options})


def compared(model: TOTALVI, **options: Any) -> pd.DataFrame:
    torch.manual_seed(0)
    return model.differential_expression(silent=True, **{"n_samples_overall": 2000, **options})


def genes(table: pd.DataFrame, cells: ad.AnnData) -> pd.DataFrame:
    return table.loc[cells.var_names]


def proteins(table: pd.DataFrame, cells: ad.AnnData) -> pd.DataFrame:
    return table.loc[[f"{name}_protein" for name in cells.obsm[PROTEINS].columns]]


def slope(truth: npt.NDArray[Any], found: pd.Series) -> float:
    return float(np.polyfit(truth, found.to_numpy(), 1)[0])


def n_called(table: pd.DataFrame) -> int:
    return int(table["is_de_fdr_0.05"].sum())


def test_what_differs_comes_first(model: TOTALVI, cells: ad.AnnData) -> None:
    table = b_against_a(model)
    assert roc_auc_score(cells.var["lfc"] != 0, genes(table, cells)["proba_de"]) > 0.97
    truth = cells.uns["protein_lfc"] != 0
    found = proteins(table, cells)["proba_de"]
    assert roc_auc_score(truth[:WITH_FOREGROUND], found[:WITH_FOREGROUND]) > 0.95
    # What little foreground a protein of background gets is noise, in which a count more or less is much.
    assert roc_auc_score(truth, proteins(b_against_a(model, protein_prior_count=1.0), cells)["proba_de"]) > 0.9


def test_changes_have_their_sign_and_size(model: TOTALVI, cells: ad.AnnData) -> None:
    table = b_against_a(model)
    truth = cells.var["lfc"].to_numpy()
    changed = truth != 0
    found = genes(table, cells)["lfc_mean"][changed]
    assert (np.sign(found) == np.sign(truth[changed])).all()
    # A model this small, trained for a moment, shrinks them.
    assert 0.6 < slope(truth[changed], found) < 1.2
    assert np.corrcoef(truth[changed], found)[0, 1] > 0.95

    truth = cells.uns["protein_lfc"][:WITH_FOREGROUND]
    found = proteins(table, cells)["lfc_median"][:WITH_FOREGROUND]
    assert 0.4 < slope(truth, found) < 1.3
    assert np.corrcoef(truth, found)[0, 1] > 0.9


def test_a_comparison_the_other_way_round_is_its_mirror(model: TOTALVI) -> None:
    there = b_against_a(model)
    back = compared(model, groupby="group", group1="A", group2="B", batch_correction=True).loc[there.index]
    assert np.allclose(there["lfc_median"], -back["lfc_median"], atol=0.25)
    assert there["proba_de"].corr(back["proba_de"]) > 0.98
    assert there["raw_mean1"].equals(back["raw_mean2"])


def test_few_of_the_discoveries_are_false(model: TOTALVI, cells: ad.AnnData) -> None:
    table = b_against_a(model, delta=0.5, pseudocounts=None, protein_prior_count=1.0)
    truth = pd.Series(np.concatenate([cells.var["lfc"], cells.uns["protein_lfc"]]) != 0)
    truth.index = genes(table, cells).index.append(proteins(table, cells).index)
    called = table["is_de_fdr_0.05"]
    assert (called & ~truth[called.index]).sum() <= 0.1 * called.sum()
    assert (called & truth[called.index]).sum() >= 0.65 * truth.sum()


def test_halves_of_one_group_do_not_differ(model: TOTALVI, cells: ad.AnnData) -> None:
    in_a = np.flatnonzero(cells.obs["group"] == "A")
    half = np.random.default_rng(0).permutation(in_a)
    table = compared(model, idx1=half[:125], idx2=half[125:])
    assert n_called(table) <= 1
    assert table["lfc_median"].abs().max() < 0.25


def test_batch_correction_removes_the_batches_difference(model: TOTALVI) -> None:
    batches = {"idx1": "group == 'A' and batch == 'two'", "idx2": "group == 'A' and batch == 'one'"}
    assert n_called(compared(model, **batches)) > 40
    assert n_called(compared(model, **batches, batch_correction=True)) <= 2


def test_batch_correction_helps_groups_of_unlike_batches(model: TOTALVI, cells: ad.AnnData) -> None:
    truth = cells.var["lfc"].to_numpy()
    correlation = [
        np.corrcoef(truth, genes(b_against_a(model, batch_correction=corrects), cells)["lfc_median"])[0, 1]
        for corrects in (False, True)
    ]
    assert correlation[1] > max(correlation[0] + 0.02, 0.9)


def test_groups_decoded_as_other_batches_show_the_batches_difference(model: TOTALVI) -> None:
    in_a = {"idx1": "group == 'A'", "idx2": "group == 'B'", "batch_correction": True}
    one = compared(model, **in_a, batchid1=["one"], batchid2=["one"])
    crossed = compared(model, **in_a, batchid1=["one"], batchid2=["two"])
    assert n_called(crossed) > n_called(one) + 20


def test_the_learned_pseudocount_silences_genes_without_counts(model: TOTALVI, cells: ad.AnnData) -> None:
    def silent(**options: Any) -> pd.DataFrame:
        return genes(b_against_a(model, **options), cells)[-20:]

    learned, none = silent(pseudocounts=None), silent(pseudocounts=0.0)
    # The largest shares of genes with less than a count in 100 cells of 800.
    assert 1e-6 < learned["pseudocounts"].iloc[0] < 3e-4
    assert learned["proba_de"].mean() < 0.8 * none["proba_de"].mean()
    assert n_called(learned) < n_called(none)


def test_the_learned_delta_lies_between_what_stays_and_what_changes(model: TOTALVI, cells: ad.AnnData) -> None:
    table = b_against_a(model, delta=None)
    assert table["delta"].nunique() == 1
    learned = table["delta"].iloc[0]
    found = genes(table, cells)["lfc_mean"].abs()
    assert found[cells.var["lfc"] == 0].median() < learned < found[cells.var["lfc"] != 0].median()
    assert roc_auc_score(cells.var["lfc"] != 0, genes(table, cells)["proba_de"]) > 0.97
    alone = b_against_a(model, delta=None, use_field=["protein"])
    assert alone["delta"].iloc[0] != learned


def test_the_vanilla_mode_ranks_by_direction(model: TOTALVI, cells: ad.AnnData) -> None:
    table = genes(b_against_a(model, mode="vanilla"), cells)
    truth = cells.var["lfc"]
    assert table["proba_m1"][truth > 0].min() > 0.8
    assert table["proba_m1"][truth < 0].max() < 0.2
    assert (np.sign(table["bayes_factor"]) == np.sign(table["proba_m1"] - 0.5)).all()


def test_expression_is_what_the_counts_say(model: TOTALVI, cells: ad.AnnData) -> None:
    table = compared(model, groupby="group", group1="B", group2="A")
    seen = genes(table, cells)[:-20]
    for group in (1, 2):
        assert np.corrcoef(np.log(seen[f"scale{group}"]), np.log(seen[f"raw_normalized_mean{group}"]))[0, 1] > 0.97
