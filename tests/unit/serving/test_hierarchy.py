"""Labels that give way to their ancestors."""

from __future__ import annotations

import numpy as np
import pytest

from totalanvi.serving.bundles.hierarchy import Hierarchy, hierarchy_problem

LABELS = ["CD4 naive", "CD4 memory", "CD8", "B", "T"]
PARENTS = {"CD4 naive": "CD4", "CD4 memory": "CD4", "CD4": "T", "CD8": "T", "T": "lymphocyte", "B": "lymphocyte"}


def names(probabilities: list[list[float]], certainty: float, parents: dict[str, str] = PARENTS) -> list[str]:
    hierarchy = Hierarchy(LABELS, parents)
    exact = np.array(probabilities)
    codes = hierarchy.certain(exact, exact.argmax(axis=1), certainty)
    return [[*hierarchy.names, "unknown"][code] for code in codes]


def test_the_nearest_ancestor_that_is_certain() -> None:
    cells = [
        [0.95, 0.02, 0.01, 0.01, 0.01],
        [0.5, 0.45, 0.05, 0.0, 0.0],
        [0.5, 0.2, 0.2, 0.05, 0.05],
        [0.4, 0.1, 0.1, 0.35, 0.05],
        [0.1, 0.1, 0.1, 0.1, 0.6],
    ]
    assert names(cells, 0.9) == ["CD4 naive", "CD4", "T", "lymphocyte", "T"]
    # A label that others lie under is as certain as all of them together.
    assert names(cells, 0.5) == ["CD4 naive", "CD4 naive", "CD4 naive", "CD4", "T"]


def test_without_ancestors_a_label_is_certain_or_nothing_is() -> None:
    assert names([[0.95, 0.05, 0, 0, 0], [0.5, 0.5, 0, 0, 0]], 0.9, parents={}) == ["CD4 naive", "unknown"]


def test_probabilities_that_nearly_add_up_are_certain() -> None:
    thirds = np.full((1, 3), 1 / 3, dtype=np.float32) - np.float32(1e-7)
    hierarchy = Hierarchy(["a", "b", "c"], dict.fromkeys("abc", "any"))
    assert hierarchy.names[hierarchy.certain(thirds, np.array([0]), certainty=1)[0]] == "any"


def test_ancestors_that_are_labels_are_named_once() -> None:
    assert Hierarchy(LABELS, PARENTS).names == [*LABELS, "CD4", "lymphocyte"]


@pytest.mark.parametrize(
    ("parents", "problem"),
    [
        (PARENTS, None),
        ({}, None),
        ({"NK": "lymphocyte"}, "found 'NK', which is neither"),
        ({"B": "B"}, "found a circle: B → B"),
        ({"B": "x", "x": "y", "y": "x"}, "found a circle: x → y → x"),
    ],
)
def test_what_is_no_hierarchy(parents: dict[str, str], problem: str | None) -> None:
    found = hierarchy_problem(LABELS, parents)
    assert (found is None) if problem is None else (found is not None and problem in found)
