"""Cells of an AnnData may have one name: nothing is looked up by it."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from tests.support.reference_cells import FAST, PROTEINS, draw_adata

from totalanvi.training import TOTALANVI

pytestmark = pytest.mark.filterwarnings("ignore:Observation names are not unique:UserWarning")


def with_repeated_names() -> ad.AnnData:
    """20 cells, each of whose names is that of another cell too."""
    adata = draw_adata()
    adata.obs_names = [f"cell{i // 2}" for i in range(adata.n_obs)]
    return adata


@pytest.fixture(scope="module")
def adata() -> ad.AnnData:
    adata = with_repeated_names()
    TOTALANVI.setup_anndata(adata, PROTEINS, batch_key="donor", labels_key="kind", unlabeled_category="unknown")
    return adata


@pytest.fixture(scope="module")
def model(adata: ad.AnnData) -> TOTALANVI:
    """A model of these cells. Not to be changed."""
    with pytest.warns(UserWarning, match=r"Cell names are repeated \(cell0, cell1, cell2, … \(10 in all\)\)"):
        model = TOTALANVI(adata, n_latent=3, n_hidden=8)
    model.train(max_epochs=1, **FAST)
    return model


@pytest.mark.filterwarnings("ignore:Cell names are repeated:UserWarning")
def test_the_model_is_that_of_the_same_cells_under_other_names(model: TOTALANVI, adata: ad.AnnData) -> None:
    renamed = adata.copy()
    renamed.obs_names_make_unique()
    other = TOTALANVI(renamed, n_latent=3, n_hidden=8)
    other.train(max_epochs=1, **FAST)
    assert np.array_equal(model.get_latent_representation(), other.get_latent_representation())
    assert np.array_equal(model.get_latent_representation(adata), other.get_latent_representation())


def test_results_have_the_names_of_the_cells(model: TOTALANVI, adata: ad.AnnData) -> None:
    probabilities = model.predict(soft=True, indices=[0, 1, 5])
    assert probabilities.index.tolist() == ["cell0", "cell0", "cell2"]  # type: ignore[union-attr]
    genes, proteins = model.get_normalized_expression(n_samples=2)
    assert genes.index.equals(adata.obs_names)  # type: ignore[union-attr]
    assert proteins.index.equals(adata.obs_names)  # type: ignore[union-attr]


def test_a_condition_chooses_cells_not_names(model: TOTALANVI) -> None:
    # Every "B" has the name of a "T": by name, each would be in both groups.
    draws = {"n_samples_overall": 20, "silent": True}
    by_condition = model.differential_expression(idx1="kind == 'B'", idx2="kind == 'T'", **draws)  # type: ignore[arg-type]
    by_group = model.differential_expression(groupby="kind", group1="B", group2="T", **draws)  # type: ignore[arg-type]
    columns = ["raw_mean1", "raw_mean2"]
    assert by_condition[columns].sort_index().equals(by_group[columns].sort_index())


def test_surgery_and_saving(model: TOTALANVI, tmp_path: object) -> None:
    query = with_repeated_names()
    query.obs["donor"] = "three"
    TOTALANVI.prepare_query_anndata(query, model)
    with pytest.warns(UserWarning, match="Cell names are repeated"):
        adapted = TOTALANVI.load_query_data(query, model)
    adapted.train(max_epochs=1, plan_kwargs={"weight_decay": 0.0}, **FAST)
    assert len(adapted.predict()) == 20
    model.save(f"{tmp_path}/saved", save_anndata=True)
    with pytest.warns(UserWarning, match="Cell names are repeated"):
        loaded = TOTALANVI.load(f"{tmp_path}/saved")
    assert np.array_equal(loaded.predict(), model.predict())
