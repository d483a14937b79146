"""Which query mode a cell has."""

from __future__ import annotations

import numpy as np

from totalanvi.serving.bundles.modes import MODES, modes_of


def names(measured: list[list[int]], panels: list[list[int]]) -> list[str]:
    return [MODES[mode] for mode in modes_of(np.array(measured, dtype=bool), np.array(panels, dtype=bool))]


def test_the_panel_of_any_batch_is_a_whole_one() -> None:
    panels = [[1, 1, 1, 0], [0, 0, 1, 1], [0, 0, 0, 0]]
    cells = [[1, 1, 1, 0], [0, 0, 1, 1], [1, 1, 1, 1], [1, 1, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert names(cells, panels) == ["protein", "protein", "protein", "part", "part", "rna"]


def test_a_batch_without_proteins_is_no_panel() -> None:
    assert names([[0, 0], [1, 0]], [[0, 0], [1, 1]]) == ["rna", "part"]


def test_no_cell_has_no_mode() -> None:
    assert modes_of(np.zeros((0, 3), dtype=bool), [[True, True, True]]).shape == (0,)
