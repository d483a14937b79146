"""Results that are not finite: counted part by part, and said of the whole query."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.toy_bundle import toy_cells

from totalanvi.serving.engine.finite import NotFinite
from totalanvi.serving.errors import QueryError


def test_the_first_result_is_named_and_counted_over_all_parts() -> None:
    cells, _ = toy_cells(12)
    found = NotFinite()
    whole = np.zeros((4, 2), dtype=np.float32)
    broken = whole.copy()
    broken[2:, 1] = np.nan, -np.inf
    assert found.note({"latent": whole, "novelty": whole[:, 0]}, start=0)
    found.require_none(cells, ("latent", "novelty"))
    assert not found.note({"latent": whole, "novelty": broken[:, 1]}, start=0)
    assert not found.note({"latent": broken}, start=8)
    assert not found.note({"latent": broken[1:3]}, start=4)
    total = f"{cells.library[5]:g}"
    with pytest.raises(
        QueryError, match=rf"found 'latent' not finite for 3 of 12 cells, first in row 5 with a total count of {total};"
    ):
        found.require_none(cells, ("latent", "novelty"))
