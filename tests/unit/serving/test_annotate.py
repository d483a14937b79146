"""Annotations: what stands where, in memory."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from tests.support.queries import as_json, assert_same_annotations, refusal, toy_mudata, write_anndata, write_mudata
from tests.support.toy_bundle import TOY, sign, toy_query, write_toy_bundle

from totalanvi.serving.bundles.manifest import MANIFEST_FILE
from totalanvi.serving.errors import QueryError
from totalanvi.serving.mapped import PROTEIN_ARRAYS, MappedCells
from totalanvi.serving.mapping.local import LocalReference
from totalanvi.serving.outputs.annotate import OBS_COLUMNS, OBSM_KEYS, UNS_KEY, reorder
from totalanvi.serving.outputs.label_names import label_sets


def test_an_anndata_gets_all_annotations(reference: LocalReference) -> None:
    query = toy_query(30)
    before = query.copy()
    annotated = reference.map(query, samples=3)
    labels = annotated.obs["totalanvi_label"]
    guess = annotated.obs["totalanvi_guess"]
    assert list(labels.cat.categories) == [*TOY.labels, "unknown"]
    assert list(guess.cat.categories) == TOY.labels
    assert (guess == query.obs["truth"]).mean() > 0.9
    known = annotated.obs["totalanvi_novelty"] <= 0.99
    np.testing.assert_array_equal(labels[known], guess[known])
    assert (labels[~known] == "unknown").all()
    probabilities = annotated.obsm["totalanvi_probabilities"]
    assert list(probabilities.columns) == TOY.labels
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(probabilities.idxmax(axis=1), guess)
    np.testing.assert_array_equal(probabilities.max(axis=1), annotated.obs["totalanvi_confidence"])
    assert annotated.obs["totalanvi_novelty"].between(0, 1).all()
    sets = annotated.obsm["totalanvi_set"]
    assert list(sets.columns) == TOY.labels
    assert annotated.obs["totalanvi_set"].tolist() == ["|".join(sets.columns[row]) for row in sets.to_numpy()]
    for name in ("protein", "protein_low", "protein_high", "protein_foreground"):
        protein = annotated.obsm[f"totalanvi_{name}"]
        assert list(protein.columns) == TOY.proteins
        assert list(protein.index) == list(query.obs_names)
    low, high = (annotated.obsm[f"totalanvi_protein_{end}"][TOY.proteins[:5]] for end in ("low", "high"))
    assert ((low >= 0) & (low < high)).to_numpy().all()
    assert annotated.obsm["X_totalanvi"].shape == (30, TOY.n_latent)
    assert annotated.obsm["X_totalanvi_map"].shape == (30, 2)
    # What was there stays, in the copy and in the query itself.
    np.testing.assert_array_equal(annotated.X.toarray(), query.X.toarray())
    assert list(query.obs.columns) == list(before.obs.columns)
    assert list(query.obsm) == list(before.obsm)
    assert not query.uns


def test_provenance_names_the_reference_the_options_and_the_alignment(reference: LocalReference) -> None:
    query = toy_query(5)[:, :55].copy()
    query.layers["counts"] = query.X.copy()
    uns = reference.map(query, "none", "counts", impute=False, samples=7, background="include").uns[UNS_KEY]
    info = reference.info()
    assert uns["reference"] == {"name": "toy", "version": "1", "digest": info.digest}
    assert uns["options"] == {
        "impute": False,
        "samples": 7,
        "background": "include",
        "impute_as": "average",
        "coverage": 0.9,
        "false_positive_rate": 0.01,
        "keep_unknown_labels": False,
        "certainty": 0.9,
    }
    assert uns["query"] == {"rna": "layer 'counts'", "proteins": "none"}
    assert uns["alignment"]["genes"]["matched"] == 55
    assert set(uns["alignment"]["genes"]["missing_names"]) == set(TOY.genes[55:])
    assert as_json(uns)


def test_each_imputed_protein_says_how_reliable_it_is(reference: LocalReference) -> None:
    query = toy_query(5)
    with pytest.warns(UserWarning, match=r"RNA cannot predict 'IgG1': do not rely on the imputed values") as caught:
        annotated = reference.map(query, proteins="none", samples=1, impute_as="run1")
    assert any("'run1' did not measure 'IgG1': imputed as the average" in str(each.message) for each in caught)
    assert annotated.uns[UNS_KEY]["options"]["impute_as"] == "run1"
    reliability = pd.DataFrame(annotated.uns[UNS_KEY]["protein_reliability"]).set_index("protein")
    assert list(reliability.index) == TOY.proteins
    assert reliability.loc["CD19"].to_dict() == pytest.approx({"pearson": 0.85, "spearman": 0.8, "n_cells": 80})
    # What was measured is not doubted, and what was not asked for is not spoken of.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reference.map(query, samples=1)
        without = reference.map(query, proteins="none", impute=False)
    assert "protein_reliability" not in without.uns[UNS_KEY]


def test_only_labels_with_parents_have_certain_names(tmp_path: Path) -> None:
    folder = write_toy_bundle(tmp_path / "toy")
    query = toy_query(10)
    first = LocalReference(folder, provider="cpu").map(query, impute=False, certainty=0.99)
    names = first.obs["totalanvi_certain"]
    assert list(names.cat.categories) == [*TOY.labels, "T cell", "lymphocyte", "unknown"]
    values = json.loads((folder / MANIFEST_FILE).read_text())
    (folder / MANIFEST_FILE).write_text(json.dumps(values | {"parents": {}}))
    second = LocalReference(sign(folder), provider="cpu").map(first, impute=False)
    assert "totalanvi_certain" not in second.obs


def test_unknown_cells_keep_their_label_when_asked(reference: LocalReference) -> None:
    query = toy_query(40)
    marked = reference.map(query, impute=False, false_positive_rate=0.3).obs
    assert 0 < (marked["totalanvi_label"] == "unknown").sum() < 40
    kept = reference.map(query, impute=False, false_positive_rate=0.3, keep_unknown_labels=True).obs
    assert kept["totalanvi_label"].tolist() == kept["totalanvi_guess"].tolist() == marked["totalanvi_guess"].tolist()


def test_without_imputation_an_earlier_runs_proteins_go(reference: LocalReference) -> None:
    first = reference.map(toy_query(6), samples=1)
    second = reference.map(first, impute=False)
    assert "totalanvi_protein" in first.obsm
    assert "totalanvi_protein" not in second.obsm
    pd.testing.assert_frame_equal(first.obs, second.obs)


def test_annotations_survive_a_file(reference: LocalReference, tmp_path: Path) -> None:
    annotated = reference.map(toy_query(8), samples=2)
    annotated.write_h5ad(tmp_path / "annotated.h5ad")
    read_back = anndata.read_h5ad(tmp_path / "annotated.h5ad")
    assert_same_annotations(read_back, annotated)


def test_a_path_a_view_and_a_backed_query_map_alike(reference: LocalReference, tmp_path: Path) -> None:
    query = toy_query(10)
    expected = reference.map(query, samples=2)
    path = write_anndata(query, tmp_path / "query.h5ad")
    assert_same_annotations(reference.map(path, samples=2), expected)
    assert_same_annotations(reference.map(str(path), samples=2), expected)
    backed = anndata.read_h5ad(path, backed="r")
    assert_same_annotations(reference.map(backed, samples=2), expected)
    backed.file.close()
    view = toy_query(20)[:10]
    assert not reference.map(view, samples=1).is_view


@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_mudata_gets_annotations_on_its_rna_and_on_all_cells(reference: LocalReference, size: int) -> None:
    mdata = toy_mudata(n_cells=20, n_rna_only=5, n_protein_only=4)
    with pytest.warns(UserWarning, match="4 of 20 cells have no RNA"):
        annotated = reference.map(mdata, samples=2, batch_size=size)
    rna = annotated["rna"]
    expected = reference.map(_joined(mdata), samples=2)
    assert_same_annotations(rna, expected[rna.obs_names], uns=False)
    without = ~annotated.obs_names.isin(rna.obs_names)
    assert without.sum() == 4
    for column in OBS_COLUMNS:
        assert annotated.obs[column].isna().tolist() == without.tolist()
        np.testing.assert_array_equal(annotated.obs[column][~without], rna[annotated.obs_names[~without]].obs[column])
    for key in OBSM_KEYS:
        values = np.asarray(annotated.obsm[key])
        missing = values[without]
        assert (~missing if missing.dtype == bool else np.isnan(missing)).all()
        np.testing.assert_array_equal(values[~without], np.asarray(rna[annotated.obs_names[~without]].obsm[key]))
    assert not any(key in annotated["adt"].obsm for key in OBSM_KEYS)
    assert not any(key in mdata.obsm for key in OBSM_KEYS)


def test_a_backed_mudata_is_refused(reference: LocalReference, tmp_path: Path) -> None:
    import mudata

    backed = mudata.read_h5mu(write_mudata(toy_mudata(), tmp_path / "query.h5mu"), backed="r")
    refusal(QueryError, lambda: reference.map(backed), "MuData in memory", "backed", "mudata.read_h5mu")
    backed.file.close()


def test_little_coverage_is_warned_of_in_python(reference: LocalReference) -> None:
    with pytest.warns(UserWarning, match="of what the model has learned from genes") as caught:
        annotated = reference.map(toy_query(5)[:, :25].copy(), impute=False)
    assert caught[0].filename == __file__
    assert len(annotated.uns[UNS_KEY]["alignment"]["warnings"]) == 1


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "10"])
def test_other_batch_sizes_are_refused(reference: LocalReference, size: Any) -> None:
    refusal(QueryError, lambda: reference.map(toy_query(5), batch_size=size), "at least 1", f"found {size!r}")


@pytest.mark.parametrize("protein", [True, False])
def test_reorder_takes_rows_and_leaves_gaps(protein: bool) -> None:
    n_cells = 4
    mapped = MappedCells(
        label=np.arange(n_cells, dtype=np.int32),
        guess=np.arange(n_cells, dtype=np.int32),
        certain=np.arange(n_cells, dtype=np.int32),
        confidence=np.arange(n_cells, dtype=np.float32),
        novelty=np.arange(n_cells, dtype=np.float32),
        probabilities=np.ones((n_cells, 2), dtype=np.float32),
        label_set=np.ones((n_cells, 2), dtype=bool),
        latent=np.ones((n_cells, 3), dtype=np.float32),
        coordinates=np.ones((n_cells, 2), dtype=np.float32),
        **{name: np.ones((n_cells, 5), dtype=np.float32) for name in PROTEIN_ARRAYS if protein},
    )
    placed = reorder(mapped, np.array([2, -1, 0]))
    assert placed.label.tolist() == [2, -1, 0]
    np.testing.assert_array_equal(placed.confidence, [2, np.nan, 0])
    np.testing.assert_array_equal(placed.latent[:, 0], [1, np.nan, 1])
    assert (placed.protein is not None) == protein
    assert placed.guess.tolist() == [2, -1, 0]
    assert placed.label_set.tolist() == [[True, True], [False, False], [True, True]]
    assert {name: array.dtype for name, array in placed.arrays().items()} == {
        name: array.dtype for name, array in mapped.arrays().items()
    }
    assert reorder(mapped, np.array([3, 1])).label.tolist() == [3, 1]


def _joined(mdata: Any) -> anndata.AnnData:
    """Make the AnnData query that a MuData's cells with RNA amount to."""
    rna = mdata["rna"].copy()
    frame = mdata["adt"].to_df().reindex(rna.obs_names)
    rna.obsm["protein_expression"] = frame
    return rna


def test_label_sets_are_named_once_each_and_in_order(reference: LocalReference) -> None:
    names = ("b", "a", "a|b", *(f"t{i}" for i in range(9)))
    features = reference.features.model_copy(update={"labels": names})
    sets = np.zeros((6, len(names)), dtype=bool)
    sets[1, [0, 1]] = sets[2, 2] = sets[3, 11] = sets[4, 0] = True
    arrays = {name: np.zeros(6, dtype=np.int32) for name in ("label", "guess", "certain")}
    arrays["guess"][5] = -1
    numbers = {name: np.zeros(6, dtype=np.float32) for name in ("confidence", "novelty")}
    tables = {name: np.zeros((6, 2), dtype=np.float32) for name in ("probabilities", "latent", "coordinates")}
    codes, found = label_sets(MappedCells(**arrays, **numbers, **tables, label_set=sets), features)
    # Within a set, labels keep the order of the reference.
    assert found == ["", "a|b", "b", "b|a", "t8"]
    assert codes.tolist() == [0, 3, 1, 4, 2, -1]
