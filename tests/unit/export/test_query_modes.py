"""The reference's own cells as queries of each mode."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from totalanvi.export.query_modes import N_PARTS, in_mode
from totalanvi.serving.bundles.modes import MODES, modes_of
from totalanvi.training.data import Cells

N_PROTEINS = 8
PANELS = [[True] * N_PROTEINS, [True] * 5 + [False] * 3, [False] * N_PROTEINS]


@pytest.fixture
def cells() -> Cells:
    """300 cells, a third in each batch, of which the last measured no protein."""
    codes = np.arange(300) % 3
    measured = np.array(PANELS)[codes]
    protein = np.where(measured, 1 + np.arange(300)[:, None] + np.arange(N_PROTEINS), 0).astype(np.float32)
    rna = sp.csr_matrix(np.arange(300, dtype=np.float32)[:, None] + np.ones((1, 4), np.float32))
    return Cells(rna=rna, protein=protein, measured=measured, batch=codes, panel=codes, label=codes)


@pytest.mark.parametrize("mode", MODES)
def test_cells_are_what_they_are_asked_to_be(cells: Cells, mode: str) -> None:
    rows, query = in_mode(cells, mode, PANELS)  # type: ignore[arg-type]
    assert {MODES[code] for code in modes_of(query.measured, PANELS)} == {mode}
    # Every cell can do without its proteins; those that have none cannot have them, in part or whole.
    has_some = np.flatnonzero(cells.batch < 2)
    if mode == "rna":
        np.testing.assert_array_equal(rows, np.arange(300))
    elif mode == "protein":
        np.testing.assert_array_equal(rows, has_some)
    else:
        # What is left of the larger panel may be the smaller one.
        assert set(rows) == set(has_some)
        assert 0.9 * N_PARTS * len(has_some) < len(rows) <= N_PARTS * len(has_some)
    np.testing.assert_array_equal(query.rna.toarray(), cells.rna[rows].toarray())
    np.testing.assert_array_equal(query.protein, np.where(query.measured, cells.protein[rows], 0))


def test_parts_are_of_several_sizes_random_and_the_same_again(cells: Cells) -> None:
    rows, query = in_mode(cells, "part", PANELS)
    whole = cells.measured[rows].sum(axis=1)
    shares = query.measured.sum(axis=1)[whole == N_PROTEINS] / N_PROTEINS
    assert set(shares) == {0.25, 0.5, 0.75}
    # No protein is always there, and none always hidden.
    seen = query.measured[whole == N_PROTEINS].mean(axis=0)
    assert ((seen > 0.2) & (seen < 0.8)).all()
    again, same = in_mode(cells, "part", PANELS)
    np.testing.assert_array_equal(again, rows)
    np.testing.assert_array_equal(same.measured, query.measured)


def test_a_panel_of_one_protein_has_no_part() -> None:
    one = np.ones((5, 1), dtype=bool)
    codes = np.zeros(5, dtype=np.int64)
    cells = Cells(
        rna=sp.csr_matrix(np.ones((5, 2), np.float32)),
        protein=one.astype(np.float32),
        measured=one,
        batch=codes,
        panel=codes,
        label=codes,
    )
    assert not len(in_mode(cells, "part", [[True]])[0])
    assert len(in_mode(cells, "protein", [[True]])[0]) == 5
