"""Counts in the model's order of genes: the same as a product of dense matrices, whatever is left out or added up."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from totalanvi.serving.alignment.renumber import TakeColumns

RNG = np.random.default_rng(0)
COLUMNS = {
    "as they are": (np.arange(30), 30),
    "fewer than the model has": (np.arange(0, 60, 2), 60),
    "in order, some left out": (np.where(np.arange(30) % 3, np.arange(30), -1), 30),
    "in another order": (RNG.permutation(30), 30),
    "in another order, some left out": (np.where(np.arange(30) % 2, RNG.permutation(30), -1), 41),
    "two of a kind, side by side": (np.repeat(np.arange(15), 2), 15),
    "two of a kind, apart": (np.tile(np.arange(15), 2), 20),
    "all but one left out": (np.where(np.arange(30) == 17, 3, -1), 5),
}


def counts(dtype: type[np.signedinteger]) -> sparse.csr_matrix:
    found = sparse.csr_matrix(RNG.poisson(0.5, (12, 30)).astype(np.float32))
    found[4] = 0
    found.eliminate_zeros()
    found.indices = found.indices.astype(dtype)
    return found


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("case", COLUMNS)
def test_every_count_comes_to_its_place(case: str, dtype: type[np.signedinteger]) -> None:
    columns, n_genes = COLUMNS[case]
    query = counts(dtype)
    before = query.toarray()
    found = TakeColumns(columns, n_genes)(query)
    expected = np.zeros((12, n_genes), dtype=np.float32)
    for column, place in enumerate(columns):
        if place >= 0:
            expected[:, place] += before[:, column]
    np.testing.assert_array_equal(found.toarray(), expected)
    # Canonical in truth, and not only by the flag.
    again = sparse.csr_matrix((found.data, found.indices, found.indptr), shape=found.shape)
    assert again.has_canonical_format
    assert found.indices.dtype == np.int32
    np.testing.assert_array_equal(query.toarray(), before)


def test_no_copy_is_made_of_what_is_in_order() -> None:
    query = counts(np.int32)
    assert TakeColumns(np.arange(30), 30)(query) is query
