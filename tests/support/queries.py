"""Queries for the toy reference in every shape that users have, and the form that every error message keeps."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse
from tests.support.toy_bundle import TOY, toy_query

from totalanvi.serving.errors import ServingError
from totalanvi.serving.outputs.annotate import OBS_COLUMNS, OBSM_KEYS, UNS_KEY

REAL_DATA = Path(__file__).parents[2].parent / "shared" / "data"
"""Real cells, where a checkout has them."""

_THREE_PARTS = re.compile(r"Expected .+; found .+\. [A-Z].+", re.DOTALL)


def refusal(kind: type[ServingError], act: Callable[[], Any], *parts: str) -> str:
    """Assert that `act` is refused with what was expected, what was found and what to do, and that it names `parts`."""
    with pytest.raises(kind) as caught:
        act()
    message = str(caught.value)
    assert_three_parts(message, *parts)
    return message


def assert_three_parts(message: str, *parts: str) -> None:
    """Assert that a message says what was expected, what was found and what to do, and names `parts`."""
    assert _THREE_PARTS.search(message), message
    for part in parts:
        assert part in message, f"{part!r} is not in: {message}"


def assert_same_annotations(found: Any, expected: Any, uns: bool = True) -> None:
    """Assert that two AnnData or MuData carry the same annotations, to the last bit."""
    for column in OBS_COLUMNS:
        # Subsetting drops categories that nobody has; names that were read may be of another type of text.
        pd.testing.assert_series_equal(
            found.obs[column], expected.obs[column], check_categorical=False, check_index_type=False
        )
    for key in OBSM_KEYS:
        assert (key in found.obsm) == (key in expected.obsm), key
        if key not in expected.obsm:
            continue
        np.testing.assert_array_equal(found.obsm[key], expected.obsm[key])
        if isinstance(expected.obsm[key], pd.DataFrame):
            assert list(found.obsm[key].columns) == list(expected.obsm[key].columns)
    if uns:
        assert as_json(found.uns[UNS_KEY]) == as_json(expected.uns[UNS_KEY])


def as_json(uns: dict[str, Any]) -> str:
    """Write what ``uns["totalanvi"]`` holds, before or after it went through a file."""
    return json.dumps(uns, sort_keys=True, default=lambda value: value.tolist())


def protein_modality(query: AnnData) -> AnnData:
    """Make an AnnData of a query's proteins."""
    frame = query.obsm["protein_expression"]
    return AnnData(
        X=sparse.csr_matrix(frame.to_numpy()),
        obs=pd.DataFrame(index=query.obs_names),
        var=pd.DataFrame(index=frame.columns),
    )


def mixed(query: AnnData, types: list[str] | None = None) -> AnnData:
    """Put proteins after the genes, as `scanpy.read_10x_h5(gex_only=False)` does, with these types of each."""
    proteins = query.obsm["protein_expression"]
    counts = sparse.hstack([query.X, sparse.csr_matrix(proteins.to_numpy())], format="csr").astype(np.float32)
    kinds = types or ["Gene Expression"] * query.n_vars + ["Antibody Capture"] * proteins.shape[1]
    var = pd.DataFrame({"feature_types": pd.Categorical(kinds)}, index=[*query.var_names, *proteins.columns])
    return AnnData(counts, obs=query.obs.copy(), var=var)


def rna_modality(query: AnnData) -> AnnData:
    """Make an AnnData of a query's RNA."""
    rna = query.copy()
    del rna.obsm["protein_expression"]
    return rna


def make_mudata(**modalities: AnnData) -> mudata.MuData:
    """Join modalities, without mudata's notices of what its next version will change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return mudata.MuData(modalities)


def toy_mudata(n_cells: int = 30, n_rna_only: int = 6, n_protein_only: int = 4, seed: int = 1) -> mudata.MuData:
    """Simulate a MuData query (``rna``, ``adt``): the first cells lack proteins, the last ones lack RNA."""
    query = toy_query(n_cells, seed)
    return make_mudata(
        rna=rna_modality(query)[: n_cells - n_protein_only].copy(), adt=protein_modality(query)[n_rna_only:].copy()
    )


def write_mudata(mdata: mudata.MuData, path: Path) -> Path:
    """Write a MuData, without mudata's notices of what its next version will change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        mdata.write_h5mu(path)
    return path


def write_anndata(adata: AnnData, path: Path) -> Path:
    """Write an AnnData and return where it is."""
    adata.write_h5ad(path)
    return path


def one_count(value: float, dtype: type[np.generic] = np.float64) -> AnnData:
    """Simulate a query of which one value is replaced: cell ``cell3``, gene ``GENE007``."""
    query = toy_query(8, proteins=False)
    counts = query.X.toarray().astype(dtype)
    counts[3, TOY.genes.index("GENE007")] = value
    query.X = sparse.csr_matrix(counts)
    return query
