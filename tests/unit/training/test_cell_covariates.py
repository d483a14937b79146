"""Covariates and size factors: registered, read again for other cells, refused where they say nothing."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from tests.support.reference_cells import draw_adata, draw_mudata, set_up, set_up_mudata

from totalanvi.training import TOTALVI
from totalanvi.training.data import Cells
from totalanvi.training.errors import MissingKeyError, RegistrationError
from totalanvi.training.registration.register import read_cells
from totalanvi.training.registration.registry import Registry
from totalanvi.training.registration.setup_note import Setup

OPTIONS: dict[str, Any] = {
    "size_factor_key": "depth",
    "categorical_covariate_keys": ["sex", "lane"],
    "continuous_covariate_keys": ["age", "mito"],
}


def with_covariates(adata: ad.AnnData) -> ad.AnnData:
    n = adata.n_obs
    adata.obs["sex"] = pd.Categorical(["m", "f"] * (n // 2), categories=["m", "f", "never"])
    adata.obs["lane"] = np.arange(n) % 3 + 9
    adata.obs["age"] = np.arange(n) + 20
    adata.obs["mito"] = np.linspace(0.0, 0.5, n)
    adata.obs["depth"] = np.linspace(500, 2000, n).astype(np.float32)
    return adata


def registered() -> tuple[ad.AnnData, Registry, Cells]:
    adata = with_covariates(draw_adata())
    return adata, *set_up(adata, **OPTIONS)


def test_covariates_are_registered() -> None:
    adata, registry, cells = registered()
    assert registry.categorical_covariates == (("sex", ("f", "m")), ("lane", ("10", "11", "9")))
    assert registry.continuous_covariates == ("age", "mito")
    assert registry.has_size_factor
    assert registry.dimensions.n_categories == (2, 3)
    assert registry.dimensions.n_continuous == 2
    assert cells.categorical[:3].tolist() == [[1, 2], [0, 0], [1, 1]]
    assert cells.categorical.dtype == np.int64
    np.testing.assert_allclose(cells.continuous, adata.obs[["age", "mito"]], rtol=1e-6)
    assert cells.continuous.dtype == cells.size_factor.dtype == np.float32
    np.testing.assert_allclose(cells.size_factor[:, 0], adata.obs["depth"])


def test_without_covariates_their_arrays_are_empty() -> None:
    registry, cells = set_up(draw_adata())
    assert (registry.categorical_covariates, registry.continuous_covariates, registry.has_size_factor) == (
        (),
        (),
        False,
    )
    assert cells.categorical.shape == cells.continuous.shape == cells.size_factor.shape == (20, 0)


def test_other_cells_have_the_codes_of_the_reference() -> None:
    adata, registry, cells = registered()
    some = adata[[7, 4]].copy()
    others = read_cells(some, Setup(**registry.setup), registry)
    for name in ("categorical", "continuous", "size_factor"):
        np.testing.assert_array_equal(getattr(others, name), getattr(cells, name)[[7, 4]])


def test_a_registry_that_was_written_reads_other_cells_alike(tmp_path: Path) -> None:
    adata, registry, cells = registered()
    registry.write(tmp_path / "registry.json")
    again = Registry.read(tmp_path / "registry.json")
    assert again == registry
    others = read_cells(adata, Setup(**again.setup), again)
    np.testing.assert_array_equal(others.categorical, cells.categorical)


def test_covariates_of_a_mudata() -> None:
    mdata = draw_mudata()
    with_covariates(mdata["rna"])
    modalities = {"rna_layer": "rna", "protein_layer": "prot"} | dict.fromkeys(OPTIONS, "rna")
    registry, cells = set_up_mudata(mdata, **OPTIONS, modalities=modalities)
    assert registry.setup["modalities"] == dict.fromkeys(OPTIONS, "rna")
    assert cells.categorical.shape == cells.continuous.shape == (16, 2)
    np.testing.assert_allclose(cells.size_factor[:, 0], mdata["rna"].obs["depth"])


@pytest.mark.parametrize(
    "values", [pd.array([1, 2] * 10, dtype="Int64"), [True, False] * 10, np.arange(20, dtype=np.int8)]
)
def test_numbers_of_any_kind_are_continuous(values: Any) -> None:
    adata = draw_adata()
    adata.obs["x"] = values
    _, cells = set_up(adata, continuous_covariate_keys=["x"])
    np.testing.assert_array_equal(cells.continuous[:, 0], np.asarray(values, dtype=np.float32))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("age", np.nan, r"a continuous covariate for every cell in obs\['age'\], found 1 cells without; fill them in"),
        (
            "age",
            np.inf,
            r"finite numbers in the continuous covariate obs\['age'\], found inf for cell 'cell3'; replace",
        ),
        ("age", 1e39, r"finite numbers in the continuous covariate obs\['age'\], found 1e\+39 for cell 'cell3'"),
        ("age", "old", r"numbers in the continuous covariate obs\['age'\], found values of type object; convert them"),
        ("sex", None, r"a categorical covariate for every cell in obs\['sex'\], found 1 cells without; fill them in"),
        ("depth", np.nan, r"a size factor for every cell in obs\['depth'\], found 1 cells without"),
        ("depth", 0.0, r"Expected size factors above 0 in obs\['depth'\], found 0 for cell 'cell3'; compute them anew"),
        ("depth", -1.5, r"Expected size factors above 0 in obs\['depth'\], found -1\.5 for cell 'cell3'"),
        ("depth", "deep", r"numbers in the size factor obs\['depth'\], found values of type object"),
    ],
)
def test_values_that_are_refused(key: str, value: Any, message: str) -> None:
    adata = with_covariates(draw_adata())
    column = adata.obs[key].astype(object if isinstance(value, str) or value is None else float)
    column["cell3"] = value
    adata.obs[key] = column
    with pytest.raises(RegistrationError, match=message):
        set_up(adata, **OPTIONS)


def test_categories_that_the_model_does_not_know_are_refused() -> None:
    adata, registry, _ = registered()
    adata.obs["lane"] = [9, 10, 11, 12] * 5
    with pytest.raises(
        RegistrationError,
        match=r"covariate values that the model knows \(10, 11, 9\), found 12 in obs\['lane'\]; rename them",
    ):
        read_cells(adata, Setup(**registry.setup), registry)


@pytest.mark.parametrize("key", ["age", "sex", "depth"])
def test_other_cells_need_the_columns(key: str) -> None:
    adata, registry, _ = registered()
    del adata.obs[key]
    with pytest.raises(MissingKeyError, match=rf"Expected obs\['{key}'\], found the keys kind, donor, "):
        read_cells(adata, Setup(**registry.setup), registry)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_model_of_covariates_that_were_not_scaled_says_how_to(sign: int) -> None:
    adata = with_covariates(draw_adata())
    adata.obs["depth"] *= sign
    set_up(adata, continuous_covariate_keys=["age", "depth"])
    expected = r"'depth' has values as large as 2000, .* = \(x - x\.mean\(\)\) / x\.std\(\)"
    with pytest.warns(UserWarning, match=expected) as caught:
        TOTALVI(adata, n_latent=2, n_hidden=8)
    assert len(caught) == 1
    x = adata.obs["depth"]
    adata.obs["depth"] = (x - x.mean()) / x.std()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TOTALVI(adata, n_latent=2, n_hidden=8)
