"""`differential_expression`: who is compared, what the table holds, and what is refused."""

from __future__ import annotations

from typing import Any

import mudata as md
import numpy as np
import pandas as pd
import pytest
import torch
from tests.support.reference_cells import FAST, PROTEINS, draw_adata

from totalanvi.formats.mudata_options import not_pulling
from totalanvi.training import TOTALANVI, TOTALVI
from totalanvi.training.errors import ArgumentError

CHANGE = [
    "proba_de",
    "proba_not_de",
    "bayes_factor",
    "scale1",
    "scale2",
    "pseudocounts",
    "delta",
    "lfc_mean",
    "lfc_median",
    "lfc_std",
    "lfc_min",
    "lfc_max",
]
VANILLA = ["proba_m1", "proba_m2", "bayes_factor", "scale1", "scale2"]
STATISTICS = [
    "raw_mean1",
    "raw_mean2",
    "non_zeros_proportion1",
    "non_zeros_proportion2",
    "raw_normalized_mean1",
    "raw_normalized_mean2",
]
NAMES = ["comparison", "group1", "group2"]


def compared(model: TOTALVI, **options: Any) -> pd.DataFrame:
    torch.manual_seed(0)
    return model.differential_expression(**{"n_samples_overall": 200, "silent": True, **options})


def copy_of(mdata: md.MuData) -> md.MuData:
    with not_pulling():
        return mdata.copy()


@pytest.fixture(scope="module")
def types(reference_mdata: md.MuData) -> list[str]:
    return [str(name) for name in reference_mdata["rna"].obs["cell_type"].cat.categories if name != "unknown"]


def test_every_feature_has_a_row_and_the_likeliest_comes_first(
    trained: TOTALANVI, reference_mdata: md.MuData, types: list[str]
) -> None:
    table = compared(trained, groupby="cell_type", group1=types[0], group2=types[1])
    assert table.columns.tolist() == [*CHANGE, *STATISTICS, "is_de_fdr_0.05", *NAMES]
    proteins = [f"{name}_protein" for name in reference_mdata["prot"].var_names]
    assert sorted(table.index) == sorted([*reference_mdata["rna"].var_names, *proteins])
    assert table["proba_de"].is_monotonic_decreasing
    assert np.allclose(table["proba_de"] + table["proba_not_de"], 1.0)
    assert table["proba_de"].between(0, 1).all()
    assert (table["comparison"] == f"{types[0]} vs {types[1]}").all()
    assert ((table["lfc_min"] <= table["lfc_median"]) & (table["lfc_median"] <= table["lfc_max"])).all()
    is_protein = table.index.str.endswith("_protein")
    assert (table["pseudocounts"][is_protein] == 0.1).all()
    assert (table["pseudocounts"][~is_protein] == 1e-5).all()
    assert table.drop(columns=["raw_normalized_mean1", "raw_normalized_mean2"]).notna().all().all()
    assert table["raw_normalized_mean1"].isna().equals(pd.Series(is_protein, table.index))
    # Called features are the likeliest ones.
    assert table["is_de_fdr_0.05"].iloc[: table["is_de_fdr_0.05"].sum()].all()


def test_the_vanilla_mode(trained: TOTALANVI, types: list[str]) -> None:
    table = compared(trained, groupby="cell_type", group1=types[0], mode="vanilla", all_stats=False)
    assert table.columns.tolist() == [*VANILLA, *NAMES]
    assert table["bayes_factor"].is_monotonic_decreasing


def test_every_group_is_compared_with_the_rest(
    trained: TOTALANVI, reference_mdata: md.MuData, types: list[str]
) -> None:
    table = compared(trained, groupby="cell_type", fdr_target=0.1)
    groups = [*types, "unknown"]
    assert table["group1"].unique().tolist() == reference_mdata["rna"].obs["cell_type"].cat.categories.tolist()
    assert table["comparison"].value_counts().to_dict() == dict.fromkeys([f"{name} vs Rest" for name in groups], 172)
    assert table["is_de_fdr_0.1"].dtype == bool
    one = table[table["group1"] == types[2]]
    rna = reference_mdata["rna"]
    mask = (rna.obs["cell_type"] == types[2]).to_numpy()
    assert np.allclose(one["raw_mean1"][rna.var_names], np.asarray(rna.X[mask].mean(axis=0)).ravel(), rtol=1e-4)
    assert np.allclose(one["raw_mean2"][rna.var_names], np.asarray(rna.X[~mask].mean(axis=0)).ravel(), rtol=1e-4)


def test_every_other_group_is_compared_with_one(trained: TOTALANVI, types: list[str]) -> None:
    table = compared(trained, groupby="cell_type", group2=types[1])
    assert set(table["group1"]) == {*types, "unknown"} - {types[1]}
    assert set(table["group2"]) == {types[1]}


def test_cells_are_chosen_by_position_mask_or_query(
    trained: TOTALANVI, reference_mdata: md.MuData, types: list[str]
) -> None:
    in_first, in_second = (reference_mdata["rna"].obs["cell_type"] == name for name in types[:2])
    by_group = compared(trained, groupby="cell_type", group1=types[0], group2=types[1]).drop(columns=NAMES)
    by_mask = compared(trained, idx1=in_first.to_numpy(), idx2=in_second)
    by_position = compared(trained, idx1=np.flatnonzero(in_first), idx2=np.flatnonzero(in_second).tolist())
    by_query = compared(trained, idx1=f"cell_type == '{types[0]}'", idx2=f"cell_type == '{types[1]}'")
    for table in (by_mask, by_position, by_query):
        pd.testing.assert_frame_equal(table, by_group)
    rest = compared(trained, idx1=in_first)
    whole = compared(trained, groupby="cell_type", group1=[types[0]]).drop(columns=NAMES)
    pd.testing.assert_frame_equal(rest, whole)


def test_a_subset_leaves_out_all_other_cells(trained: TOTALANVI, reference_mdata: md.MuData, types: list[str]) -> None:
    obs, genes = reference_mdata["rna"].obs, list(reference_mdata["rna"].var_names)
    within = (obs["batch"] == "batch1") & obs["cell_type"].isin(types[:3])
    by_query = f"batch == 'batch1' and cell_type in {types[:3]}"
    table = compared(trained, groupby="cell_type", subset_idx=by_query)
    assert set(table["group1"]) == set(types[:3])
    one = table[table["group1"] == types[0]].loc[genes]
    rest = reference_mdata["rna"].X[(within & (obs["cell_type"] != types[0])).to_numpy()]
    assert np.allclose(one["raw_mean2"], np.asarray(rest.mean(axis=0)).ravel(), rtol=1e-4)
    chosen = compared(trained, idx1=f"cell_type == '{types[0]}'", subset_idx=within.to_numpy()).loc[genes]
    assert np.allclose(chosen["raw_mean2"], one["raw_mean2"])


def test_genes_or_proteins_alone(trained: TOTALANVI, types: list[str]) -> None:
    groups = {"groupby": "cell_type", "group1": types[0], "group2": types[1]}
    genes, proteins = (compared(trained, **groups, use_field=[field]) for field in ("rna", "protein"))
    assert len(genes) == 160
    assert len(proteins) == 12
    assert proteins.index.str.endswith("_protein").all()
    assert genes.columns.equals(proteins.columns)


def test_the_seed_decides_the_draws(trained: TOTALANVI, types: list[str]) -> None:
    groups = {"groupby": "cell_type", "group1": types[0], "batch_correction": True, "use_permutation": True}
    one, again = (compared(trained, **groups, m_permutation=300, delta=None) for _ in range(2))
    pd.testing.assert_frame_equal(one, again)
    other = trained.differential_expression(**groups, m_permutation=300, delta=None, n_samples_overall=200, silent=True)
    assert not np.array_equal(other["lfc_mean"].sort_index(), one["lfc_mean"].sort_index())


def test_the_data_is_left_as_it_was(trained: TOTALANVI, reference_mdata: md.MuData) -> None:
    before = {name: part.obs.copy() for name, part in reference_mdata.mod.items()} | {"all": reference_mdata.obs.copy()}
    compared(trained, idx1=[0, 1, 2], idx2=[3, 4, 5])
    compared(trained, groupby="cell_type", subset_idx="batch == 'batch1'")
    after = {name: part.obs for name, part in reference_mdata.mod.items()} | {"all": reference_mdata.obs}
    for name, obs in before.items():
        pd.testing.assert_frame_equal(obs, after[name])


def test_columns_of_every_part_of_a_mudata(trained: TOTALANVI, reference_mdata: md.MuData) -> None:
    mdata = copy_of(reference_mdata)
    half = np.where(np.arange(mdata.n_obs) < 200, "first", "second")
    mdata["prot"].obs["of_proteins"] = half
    mdata["rna"].obs["of_rna"] = half
    mdata.obs["of_all"] = half
    tables = [
        compared(trained, adata=mdata, groupby=column, group1="first", group2="second")
        for column in ("of_rna", "of_all", "of_proteins")
    ]
    for table in tables[1:]:
        pd.testing.assert_frame_equal(table, tables[0])


def test_groups_that_are_numbers_flags_or_missing(trained: TOTALANVI, reference_mdata: md.MuData) -> None:
    mdata = copy_of(reference_mdata)
    obs = mdata["rna"].obs
    obs["cluster"] = np.arange(mdata.n_obs) % 3
    obs["flag"] = obs["cluster"] == 1
    obs["partly"] = obs["cluster"].map({0: "zero", 1: "one"})
    by_number = compared(trained, adata=mdata, groupby="cluster", group1=1)
    by_flag = compared(trained, adata=mdata, groupby="flag", group1=True)
    by_text = compared(trained, adata=mdata, groupby="partly", group1="one")
    assert set(by_number["comparison"]) == {"1 vs Rest"}
    # Cells without a group are of the rest.
    for table in (by_flag, by_text):
        pd.testing.assert_frame_equal(table.drop(columns=NAMES), by_number.drop(columns=NAMES))
    every = compared(trained, adata=mdata, groupby="partly")
    assert set(every["group1"]) == {"one", "zero"}


def test_own_functions_of_change(trained: TOTALANVI, types: list[str]) -> None:
    groups = {"groupby": "cell_type", "group1": types[0], "group2": types[1]}
    plain = compared(trained, **groups)
    named = compared(trained, **groups, change_fn="log-fold")
    pd.testing.assert_frame_equal(named, plain)

    def log_fold(first: Any, second: Any, pseudocount: float) -> Any:
        return np.log2(first + pseudocount) - np.log2(second + pseudocount)

    def domain(change: Any) -> tuple[Any, Any]:
        return change >= 0.25, change < -0.25

    own = compared(trained, **groups, change_fn=log_fold, m1_domain_fn=domain)
    assert own["delta"].isna().all()
    columns = [column for column in CHANGE if column != "delta"]
    # In single precision here and there.
    assert np.allclose(own.loc[plain.index, columns], plain[columns], rtol=1e-3, atol=1e-3)


def test_intervals_are_told_by_level(trained: TOTALANVI, types: list[str]) -> None:
    table = compared(trained, groupby="cell_type", group1=types[0], cred_interval_lvls=[0.5, 0.95])
    names = [f"lfc_confidence_interval_{level}_{end}" for level in (0.5, 0.95) for end in ("min", "max")]
    assert [name for name in table.columns if "interval" in name] == names
    low, high, lower, higher = (table[name] for name in names)
    assert (low <= high).all()
    assert ((higher - lower) >= (high - low)).all()
    assert ((table["lfc_min"] <= lower) & (higher <= table["lfc_max"])).all()


def test_proteins_take_their_options(trained: TOTALANVI, types: list[str]) -> None:
    groups = {"groupby": "cell_type", "group1": types[0], "use_field": "protein"}
    plain = compared(trained, **groups)
    with_background = compared(trained, **groups, include_protein_background=True).loc[plain.index]
    assert (with_background["scale1"] > plain["scale1"]).all()
    assert compared(trained, **groups, scale_protein=True)["scale1"].sum() == pytest.approx(1.0, abs=1e-4)
    mixed = compared(trained, **groups, sample_protein_mixing=True, protein_prior_count=0.0)
    assert np.isfinite(mixed["lfc_mean"]).all()
    damped = compared(trained, **groups, protein_prior_count=1e6)
    assert (damped["lfc_mean"].abs() < 0.01).all()


def test_mode_of_drawing(trained: TOTALANVI, types: list[str]) -> None:
    groups = {"groupby": "cell_type", "group1": types[0]}
    wide = compared(trained, **groups, batch_size=400)
    narrow = compared(trained, **groups, batch_size=200, n_samples_overall=200)
    pd.testing.assert_frame_equal(wide, narrow)
    by_code = compared(trained, **groups, batch_correction=True, batchid1=[0], batchid2=0)
    by_name = compared(trained, **groups, batch_correction=True, batchid1="batch1", batchid2=["batch1", "batch1"])
    pd.testing.assert_frame_equal(by_code, by_name)


def test_progress_is_silent_on_request(
    trained: TOTALANVI, types: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    compared(trained, groupby="cell_type", group1=types[0], silent=True)
    assert capsys.readouterr().out == ""
    compared(trained, groupby="cell_type", group1=types[0], silent=False)
    assert "Differential expression" in capsys.readouterr().out


def test_unmeasured_proteins_are_warned_of() -> None:
    adata = draw_adata(40)
    adata.obsm[PROTEINS].loc[adata.obs["donor"] == "two", "CD4"] = 0
    TOTALVI.setup_anndata(adata, PROTEINS, batch_key="donor")
    model = TOTALVI(adata, n_latent=2, n_hidden=8)
    model.train(max_epochs=1, **FAST)
    # All cells of type B are of the donor whose panel has the protein, all T cells of the other.
    with pytest.warns(UserWarning, match=r"1 proteins were not measured .*two lack some"):
        table = compared(model, groupby="kind", group1="B", group2="T")
    measured = adata.obsm[PROTEINS].loc[adata.obs["kind"] == "B", "CD4"]
    assert table.loc["CD4_protein", "raw_mean1"] == pytest.approx(measured.mean())
    assert np.isnan(table.loc["CD4_protein", "raw_mean2"])
    with pytest.warns(UserWarning, match="two lack some"):
        compared(model, groupby="kind", group1="T", batch_correction=True, batchid1="two", batchid2="two")


@pytest.mark.filterwarnings("error")
def test_batches_that_measured_all_are_not_warned_of(trained: TOTALANVI, types: list[str]) -> None:
    compared(trained, groupby="cell_type", group1=types[0], batch_correction=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "groupby: expected a column of obs, or idx1, found neither"),
        ({"groupby": "kind"}, "groupby: expected a column of obs .*, found 'kind'"),
        ({"groupby": "cell_type", "group1": "Nobody"}, "group1: expected a group with cells .*, found 'Nobody'"),
        ({"groupby": "cell_type", "group1": "unknown", "group2": 7}, "group2: expected a group with cells"),
        ({"groupby": "cell_type", "group1": "unknown", "group2": "unknown"}, "'unknown' twice"),
        ({"groupby": "cell_type", "group1": []}, "group1: expected a group or more"),
        ({"groupby": "cell_type", "subset_idx": "cell_type == 'unknown'"}, "expected two groups or more .*'unknown'"),
        ({"groupby": "cell_type", "subset_idx": []}, "expected two groups or more .* found none"),
        ({"idx2": [1]}, "idx1: expected the first group with idx2"),
        ({"idx1": []}, "idx1: expected cells, found none"),
        ({"idx1": "batch == 'no such batch'"}, "idx1: expected cells, found none"),
        ({"idx1": [0], "idx2": np.zeros(400, bool)}, "idx2: expected cells, found none"),
        ({"idx1": range(400)}, "the rest of the cells: expected cells, found none"),
        ({"idx1": [0, 1], "idx2": [1, 2]}, "found 1 in both"),
        ({"idx1": [0, 400]}, "idx1: expected 0 to 399, found 400"),
        ({"idx1": [-1]}, "found -1"),
        ({"idx1": [0.5]}, "idx1: expected positions of cells, or a mask of all 400"),
        ({"idx1": [True, False]}, "idx1: expected a mask of the 400 cells, found one of 2"),
        ({"idx1": "no_column > 3"}, "idx1: expected a condition on columns of obs"),
        ({"idx1": "batch =="}, "idx1: expected a condition on columns of obs"),
        ({"mode": "other"}, "mode: expected one of vanilla, change, found 'other'"),
        ({"fdr_target": 0}, "fdr_target: expected a number above 0 and below 1, found 0"),
        ({"fdr_target": 1.5}, "fdr_target"),
        ({"delta": -0.1}, "delta: expected a number of at least 0"),
        ({"test_mode": "four"}, "test_mode: expected one of two, three"),
        ({"n_samples_overall": 0}, "n_samples_overall: expected a whole number of at least 1"),
        ({"n_samples_overall": 1, "batch_correction": True}, "expected at least one for each of the 2 batches"),
        ({"use_permutation": True, "m_permutation": 0}, "m_permutation"),
        ({"batch_size": 0}, "batch_size"),
        ({"pseudocounts": -1.0}, "pseudocounts: expected a number of at least 0"),
        ({"protein_prior_count": -1.0}, "protein_prior_count"),
        ({"threshold_counts": float("nan")}, "threshold_counts"),
        ({"cred_interval_lvls": [95]}, "cred_interval_lvls: expected a number above 0 and below 1, found 95"),
        ({"use_field": ["rna", "atac"]}, "use_field: expected one of rna, protein, found 'atac'"),
        ({"use_field": []}, "use_field"),
        ({"batchid1": ["batch1"]}, "set batch_correction=True"),
        (
            {"batch_correction": True, "batchid1": ["batch9"]},
            "batchid1: expected one of the model's batches .*'batch9'",
        ),
        ({"batch_correction": True, "batchid2": []}, "batchid2: expected one batch or more"),
        ({"batch_correction": True, "batchid1": ["batch1"]}, "found batch1 in both"),
        ({"change_fn": "difference"}, "change_fn: expected a function"),
        ({"change_fn": lambda x, y, pseudocount: x.mean(axis=0)}, "change_fn: expected a change for each pair"),
        ({"m1_domain_fn": 0.3}, "m1_domain_fn: expected a function"),
        ({"m1_domain_fn": lambda change: (change > 0, change[0] < 0)}, "m1_domain_fn: expected two arrays"),
    ],
)
def test_what_cannot_be_compared_is_refused(trained: TOTALANVI, options: dict[str, Any], message: str) -> None:
    chooses = {"groupby", "idx1", "idx2"} & set(options)
    groups = {} if chooses or not options else {"groupby": "batch", "group1": "batch1"}
    with pytest.raises(ArgumentError, match=message):
        compared(trained, **groups, **options)
