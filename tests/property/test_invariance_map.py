"""A query maps to the same, cell by cell, however it comes: in process, at an endpoint, with a readout or not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from tests.support.server import app_in_thread, endpoint_of
from tests.support.toy_bundle import toy_query, write_toy_bundle

from totalanvi.serving.client import Client
from totalanvi.serving.endpoint.app import create_app
from totalanvi.serving.mapped import MapOptions
from totalanvi.serving.mapping.local import LocalReference
from totalanvi.serving.mapping.mapping import map_file

N_CELLS = 30
PROTEIN_KEY = "protein_expression"
OPTIONS: dict[str, Any] = {"samples": 2, "false_positive_rate": 0.2, "coverage": 0.8}

few = settings(max_examples=15, deadline=None)


@pytest.fixture(scope="module", params=["without a readout", "with a readout"])
def local(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LocalReference:
    if request.param == "with a readout":
        return LocalReference(request.getfixturevalue("bundle"), provider="cpu")
    return LocalReference(write_toy_bundle(tmp_path_factory.mktemp("invariance") / "toy"), provider="cpu")


@pytest.fixture(scope="module")
def remote(local: LocalReference) -> Iterator[Client]:
    endpoint = endpoint_of(local.bundle.path, opened=lambda _: local)
    endpoint.references.look()
    with app_in_thread(create_app(endpoint)) as web, Client(str(web.base_url)) as client:
        yield client


def draw_query(local: LocalReference, n_cells: int, seed: int) -> AnnData:
    """Cells with the names of the reference: of three, one has its proteins, one none, and one is short of RNA."""
    if local.bundle.readout is None:
        query = toy_query(n_cells, seed=seed)
    else:
        rng = np.random.default_rng(seed)
        counts = rng.poisson(rng.gamma(0.5, 4, (n_cells, len(local.features.genes)))).astype(np.float32)
        proteins = rng.poisson(rng.gamma(1, 20, (n_cells, len(local.features.proteins)))).astype(np.float32)
        query = AnnData(sparse.csr_matrix(counts), var=pd.DataFrame(index=local.features.genes))
        query.obsm[PROTEIN_KEY] = pd.DataFrame(proteins, index=query.obs_names, columns=list(local.features.proteins))
    query.obs_names = [f"{seed}-{i}" for i in range(n_cells)]
    table = query.obsm[PROTEIN_KEY].set_axis(query.obs_names)
    table.iloc[1::3] = 0
    query.obsm[PROTEIN_KEY] = table
    counts = query.X.toarray()
    counts[2::3, ::2] = 0
    query.X = sparse.csr_matrix(counts)
    return query


@pytest.fixture(scope="module")
def query(local: LocalReference) -> AnnData:
    return draw_query(local, N_CELLS, seed=3)


@pytest.fixture(scope="module")
def expected(local: LocalReference, query: AnnData) -> AnnData:
    return local.map(query, **OPTIONS)


def with_genes(query: AnnData, order: np.ndarray, n_extra: int) -> AnnData:
    """The same cells with genes in another order, among them some that no reference knows."""
    rng = np.random.default_rng(n_extra)
    extra = sparse.csr_matrix(rng.poisson(3, (query.n_obs, n_extra)).astype(np.float32))
    counts = sparse.hstack([query.X, extra], format="csr")
    names = np.array([*query.var_names, *(f"unheard-of-{i}" for i in range(n_extra))], dtype=object)
    changed = AnnData(counts[:, order], obs=query.obs.copy(), var=pd.DataFrame(index=names[order]))
    changed.obsm[PROTEIN_KEY] = query.obsm[PROTEIN_KEY].iloc[:, ::-1]
    return changed


def joined(query: AnnData, others: AnnData) -> AnnData:
    both = AnnData(
        sparse.vstack([query.X, others.X], format="csr"),
        obs=pd.DataFrame(index=[*query.obs_names, *others.obs_names]),
        var=pd.DataFrame(index=query.var_names),
    )
    both.obsm[PROTEIN_KEY] = pd.concat([query.obsm[PROTEIN_KEY], others.obsm[PROTEIN_KEY]])
    return both


def assert_same(found: AnnData, expected: AnnData, tolerance: float) -> None:
    found = found[expected.obs_names]
    for name in (column for column in expected.obs if str(column).startswith("totalanvi_")):
        values = expected.obs[name].to_numpy()
        if values.dtype.kind == "f":
            np.testing.assert_allclose(found.obs[name], values, rtol=tolerance, atol=tolerance, err_msg=str(name))
        else:
            np.testing.assert_array_equal(found.obs[name].astype(object), expected.obs[name].astype(object))
    for key in (key for key in expected.obsm if "totalanvi" in key):
        values = np.asarray(expected.obsm[key], dtype=np.float64)
        # The absolute part is for numbers near zero, such as a coordinate that is a difference of larger ones.
        most = np.nanmax(np.abs(values))
        np.testing.assert_allclose(
            np.asarray(found.obsm[key], dtype=np.float64), values, rtol=tolerance, atol=tolerance * most, err_msg=key
        )


presentations = {
    "seed": st.integers(0, 2**32 - 1),
    "n_extra": st.sampled_from([0, 1, 40]),
    "n_others": st.sampled_from([0, 1, 20]),
    "batch_size": st.sampled_from([7, 32, 1000]),
}


def presented(local: LocalReference, query: AnnData, seed: int, n_extra: int, n_others: int) -> AnnData:
    """The cells of a query among others, both they and the genes in any order, with genes that mean nothing."""
    rng = np.random.default_rng(seed)
    company = joined(query, draw_query(local, n_others, seed=4)) if n_others else query
    among = company[rng.permutation(company.n_obs)].copy()
    return with_genes(among, rng.permutation(query.n_vars + n_extra), n_extra)


@few
@given(**presentations)
def test_in_process(local: LocalReference, query: AnnData, expected: AnnData, batch_size: int, **how: int) -> None:
    found = local.map(presented(local, query, **how), batch_size=batch_size, **OPTIONS)
    assert_same(found, expected, 1e-6)


@few
@given(**presentations)
def test_at_an_endpoint(
    local: LocalReference, remote: Client, query: AnnData, expected: AnnData, batch_size: int, **how: int
) -> None:
    found = remote.map(presented(local, query, **how), batch_size=batch_size, **OPTIONS)
    assert_same(found, expected, 1e-5)


def test_mapping_twice_gives_the_same(local: LocalReference, remote: Client, query: AnnData, expected: AnnData) -> None:
    assert_same(local.map(query, **OPTIONS), expected, 0)
    assert_same(local.map(expected, **OPTIONS), expected, 0)
    assert_same(remote.map(query, **OPTIONS), remote.map(query, **OPTIONS), 0)


@few
@given(batch_size=st.integers(3, 40), cut=st.integers(1, N_CELLS - 1))
def test_files_in_parts(
    local: LocalReference,
    query: AnnData,
    expected: AnnData,
    tmp_path_factory: pytest.TempPathFactory,
    batch_size: int,
    cut: int,
) -> None:
    folder = tmp_path_factory.mktemp("parts")
    parts = []
    for name, part in (("first", query[:cut]), ("rest", query[cut:])):
        path, output = folder / f"{name}.h5ad", folder / f"{name}.parquet"
        part.copy().write_h5ad(path)
        map_file(lambda: local, path, str(output), options=MapOptions(**OPTIONS), batch_size=batch_size)
        parts.append(pd.read_parquet(output))
    table = pd.concat(parts).set_index("cell_id").loc[expected.obs_names]
    np.testing.assert_array_equal(table["totalanvi_label"], expected.obs["totalanvi_label"].astype(object))
    np.testing.assert_allclose(table["totalanvi_novelty"], expected.obs["totalanvi_novelty"], rtol=1e-6, atol=1e-6)
    proteins = table[[f"protein:{name}" for name in local.features.proteins]].to_numpy()
    most = np.nanmax(proteins)
    np.testing.assert_allclose(proteins, expected.obsm["totalanvi_protein"], rtol=1e-6, atol=1e-6 * most)
