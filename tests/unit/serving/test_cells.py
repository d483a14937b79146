"""Aligned and mapped cells accept what is sound, and say what is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse
from tests.support.toy_bundle import toy_cells

from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.errors import CountsError, QueryError
from totalanvi.serving.mapped import PROTEIN_ARRAYS, MapOptions, MappedCells


def parts(cells: AlignedCells) -> dict[str, Any]:
    return {name: getattr(cells, name).copy() for name in ("rna", "library", "protein", "measured")}


@pytest.mark.parametrize("index", [slice(2, 5), np.array([4, 0, 4]), np.arange(10) > 6])
def test_rows(index: Any) -> None:
    cells, _ = toy_cells(10)
    taken = cells.rows(index)
    np.testing.assert_array_equal(taken.rna.toarray(), cells.rna.toarray()[index])
    for name in ("library", "protein", "measured"):
        np.testing.assert_array_equal(getattr(taken, name), getattr(cells, name)[index])
    np.testing.assert_array_equal(taken.has_protein, cells.has_protein[index])
    assert len(taken) == len(taken.library)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("rna", sparse.csc_matrix((4, 60), dtype=np.float32), "rna: expected a scipy csr_matrix"),
        ("rna", sparse.csr_matrix((4, 60), dtype=np.float64), "rna: expected float32"),
        (
            "library",
            np.ones(5, np.float32),
            r"library: expected float32 of shape \(4,\), found float32 of shape \(5,\)",
        ),
        ("library", np.ones(4), "library: expected float32 .* found float64"),
        ("protein", np.zeros(4, np.float32), r"protein: expected shape \(4, proteins\)"),
        ("measured", np.ones((4, 6), np.float32), "measured: expected bool"),
        ("measured", np.ones((4, 5), bool), r"measured: expected bool of shape \(4, 6\)"),
    ],
)
def test_wrong_kind_or_shape(name: str, value: Any, message: str) -> None:
    cells, _ = toy_cells(4, measured_share=1)
    with pytest.raises(QueryError, match=message):
        AlignedCells(**{**parts(cells), name: value})


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
@pytest.mark.parametrize("name", ["rna", "library", "protein"])
def test_values_that_are_no_counts(name: str, value: float) -> None:
    arrays = parts(toy_cells(4, measured_share=1)[0])
    (arrays["rna"].data if name == "rna" else arrays[name].reshape(-1))[2] = value
    with pytest.raises(CountsError, match=f"{name}: expected finite counts of at least 0, found {value}"):
        AlignedCells(**arrays)


def test_count_of_a_protein_that_was_not_measured() -> None:
    arrays = parts(toy_cells(4, measured_share=1)[0])
    arrays["measured"][1] = False
    with pytest.raises(CountsError, match="expected 0 where `measured` is false"):
        AlignedCells(**arrays)


@pytest.mark.parametrize(
    ("pointers", "indices", "message"),
    [
        ([0, 2, 1, 3], [0, 1, 2], "row pointers that start at 0 and never fall"),
        ([1, 1, 2, 3], [0, 1, 2], "row pointers that start at 0 and never fall"),
        ([0, 1, 2, 3], [0, 1, 60], "gene indices from 0 to 59, found 0 to 60"),
        ([0, 1, 2, 3], [0, -1, 2], "gene indices from 0 to 59, found -1 to 2"),
        ([0, 1, 2, 9], [0, 1, 2], r"as many CSR indices and values as the row pointers say \(9\), found 3 and 3"),
    ],
)
def test_broken_csr_never_reaches_the_scatter(pointers: list[int], indices: list[int], message: str) -> None:
    rna = sparse.csr_matrix((3, 60), dtype=np.float32)
    rna.indptr, rna.indices = np.array(pointers, np.int32), np.array(indices, np.int32)
    rna.data = np.ones(3, np.float32)
    none = np.zeros((3, 6), np.float32)
    with pytest.raises(QueryError, match=message):
        AlignedCells(rna, np.ones(3, np.float32), none, none.astype(bool))


def mapped(n_cells: int, protein: bool = True) -> MappedCells:
    row = np.arange(n_cells, dtype=np.float32)
    return MappedCells(
        label=np.arange(n_cells, dtype=np.int32),
        guess=np.arange(n_cells, dtype=np.int32),
        certain=np.arange(n_cells, dtype=np.int32),
        confidence=row,
        novelty=row,
        probabilities=np.stack([row, row], axis=1),
        label_set=np.stack([row > 1, row > 2], axis=1),
        latent=np.stack([row, row], axis=1),
        coordinates=np.stack([row, row], axis=1),
        **{name: np.stack([row, row], axis=1) for name in PROTEIN_ARRAYS if protein},
    )


@pytest.mark.parametrize("protein", [True, False])
def test_parts_join_to_the_whole(protein: bool) -> None:
    whole = mapped(7, protein)
    joined = MappedCells.concatenate([whole.rows(slice(0, 3)), whole.rows(slice(3, 3)), whole.rows(slice(3, 7))])
    assert joined.arrays().keys() == whole.arrays().keys()
    for name, array in joined.arrays().items():
        np.testing.assert_array_equal(array, whole.arrays()[name])
        assert array.dtype == whole.arrays()[name].dtype


def test_parts_that_do_not_belong_together() -> None:
    with pytest.raises(ValueError, match="at least one part"):
        MappedCells.concatenate([])
    with pytest.raises(ValueError, match="in all parts or in none"):
        MappedCells.concatenate([mapped(2), mapped(2, protein=False)])
    with pytest.raises(ValueError, match="one row per cell"):
        MappedCells(**{**mapped(3).arrays(), "label": np.zeros(2, np.int32)})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"samples": 0}, "samples: expected a whole number from 1 to 1000, found 0"),
        ({"samples": 1001}, "samples"),
        ({"samples": 2.5}, "samples"),
        ({"samples": True}, "samples"),
        ({"impute": 1}, "impute: expected true or false"),
        ({"background": "both"}, "background: expected 'exclude' or 'include', found 'both'"),
        ({"background": []}, "background"),
        (
            {"impute": False, "impute_as": "run1"},
            "impute_as: expected none where proteins are not imputed, found 'run1'",
        ),
        ({"impute_as": 3}, "impute_as: expected the name of a batch or none, found 3"),
        ({"coverage": 0.995}, "coverage: expected a number from 0.5 to 0.99, found 0.995"),
        ({"coverage": float("nan")}, "coverage"),
        ({"coverage": "0.9"}, "coverage"),
        ({"certainty": 0.4}, "certainty: expected a number from 0.5 to 1"),
        ({"false_positive_rate": -0.1}, "false_positive_rate: expected a number from 0 to 0.5"),
        ({"false_positive_rate": True}, "false_positive_rate"),
        ({"keep_unknown_labels": 1}, "keep_unknown_labels: expected true or false"),
        ({"noise": 1}, r"found \['noise'\]; leave these out"),
        ([1], "expected an object"),
    ],
)
def test_options_that_are_none(values: Any, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        MapOptions.from_dict(values)


def test_options_survive_a_round_trip() -> None:
    options = MapOptions(samples=3, background="include", impute_as="run1", coverage=0.5, certainty=1)
    assert MapOptions.from_dict(options.as_dict()) == options
    assert MapOptions.from_dict({}) == MapOptions()
