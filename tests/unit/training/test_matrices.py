"""Matrices of any kind: read alike, or refused before anything follows what is damaged in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from tests.support.reference_cells import PROTEINS, draw_adata, set_up

from totalanvi.training.errors import CountsError, RegistrationError


@pytest.mark.parametrize(
    "store",
    [
        sp.csc_matrix,
        sp.csr_array,
        np.asfortranarray,
        lambda x: x.astype(np.float16),
        np.int64,
        lambda x: x.astype(">f4"),
    ],
    ids=["csc", "csr_array", "fortran", "float16", "int64", "another byte order"],
)
def test_counts_are_the_same_however_they_are_stored(store: Any) -> None:
    adata = draw_adata()
    expected = set_up(draw_adata())[1]
    # Through a layer, since AnnData turns some kinds away from X.
    adata.layers["counts"] = store(sp.csr_matrix(adata.X).toarray())
    adata.obsm[PROTEINS] = adata.obsm[PROTEINS].astype("Int64")
    found = set_up(adata, layer="counts")[1]
    np.testing.assert_array_equal(found.rna.toarray(), expected.rna.toarray())
    np.testing.assert_array_equal(found.protein, expected.protein)


@pytest.mark.parametrize("sparse", [True, False])
def test_a_backed_reference_is_read(tmp_path: Path, sparse: bool) -> None:
    adata = draw_adata()
    counts = sp.csr_matrix(adata.X)
    adata.X = counts if sparse else counts.toarray()
    adata.write_h5ad(tmp_path / "reference.h5ad")
    backed = ad.read_h5ad(tmp_path / "reference.h5ad", backed="r")
    np.testing.assert_array_equal(set_up(backed)[1].rna[:].toarray(), counts.toarray())
    backed.file.close()


@pytest.mark.parametrize("place", [10**6, -5])
@pytest.mark.parametrize(("layout", "part"), [("csr", "indices"), ("csr", "indptr"), ("csc", "indices")])
def test_a_damaged_sparse_matrix_is_refused(layout: str, part: str, place: int) -> None:
    adata = draw_adata()
    adata.X = sp.csr_matrix(adata.X).asformat(layout)
    getattr(adata.X, part)[3] = place
    with pytest.raises(CountsError, match=r"Expected a valid sparse matrix in X, found a damaged one .*; write"):
        set_up(adata)


def test_a_reference_without_x_needs_a_layer() -> None:
    adata = draw_adata()
    without = ad.AnnData(None, obs=adata.obs, var=adata.var, obsm=dict(adata.obsm))
    with pytest.raises(RegistrationError, match="Expected counts in X, found nothing there; name the layer"):
        set_up(without)


def test_a_reference_of_zeros_is_refused() -> None:
    adata = draw_adata()
    adata.X = sp.csr_matrix(adata.shape)
    with pytest.raises(RegistrationError, match="Expected cells with RNA counts, found zeros only; name the layer"):
        set_up(adata)


def test_values_that_are_no_numbers_are_refused() -> None:
    adata = draw_adata()
    adata.obsm[PROTEINS]["note"] = "good"
    with pytest.raises(CountsError, match=r"Expected numbers in obsm\['protein_expression'\], found .*'good'.*; keep"):
        set_up(adata)
    adata = draw_adata()
    adata.obsm[PROTEINS] = adata.obsm[PROTEINS].astype(str)
    with pytest.raises(CountsError, match=r"Expected numbers .*, found the text '\d+' in its column 'CD3'; keep"):
        set_up(adata)
    adata = draw_adata()
    adata.X = sp.csr_matrix(adata.X).astype(np.complex64)
    with pytest.raises(CountsError, match="Expected numbers in X, found values of type complex64"):
        set_up(adata)
