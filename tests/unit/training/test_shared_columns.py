"""A column that is named for the labels and for what is to be removed: accepted, with a warning."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from tests.support.command_line import QuietRun
from tests.support.reference_cells import PROTEINS, draw_adata, draw_mudata

from totalanvi.training import TOTALANVI, TOTALVI

WARNING = (
    "obs['kind'] is named for the labels and for the {0}: what tells cell types apart is then taken for an effect "
    "of the {0}, and imputed proteins lose it, so name another column for one of them."
)


def warned(make: type[TOTALVI], **columns: object) -> list[str]:
    """Warnings of shared columns when a model is made of an AnnData."""
    adata = draw_adata()
    adata.obs["kind"] = ["B", "T"] * (adata.n_obs // 2)
    adata.obs["code"] = [0.0, 1.0] * (adata.n_obs // 2)
    make.setup_anndata(adata, PROTEINS, **columns)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        make(adata)
    return [str(warning.message) for warning in caught if "is named for the labels" in str(warning.message)]


@pytest.mark.parametrize(
    ("columns", "effects"),
    [
        ({"batch_key": "kind"}, ["batch"]),
        ({"categorical_covariate_keys": ["donor", "kind"]}, ["categorical covariate"]),
        ({"batch_key": "kind", "categorical_covariate_keys": ["kind"]}, ["batch", "categorical covariate"]),
        ({"batch_key": "donor", "categorical_covariate_keys": ["donor"]}, []),
        ({"panel_key": "kind"}, []),
    ],
    ids=["batch", "covariate", "both", "others", "panel"],
)
def test_labels_that_are_to_be_removed_are_warned_of(columns: dict[str, object], effects: list[str]) -> None:
    assert warned(TOTALANVI, labels_key="kind", **columns) == [WARNING.format(what) for what in effects]


def test_numbers_too() -> None:
    (message,) = warned(TOTALANVI, labels_key="code", continuous_covariate_keys=["code"])
    assert "obs['code'] is named for the labels and for the continuous covariate" in message


def test_totalvi_learns_nothing_of_labels() -> None:
    assert warned(TOTALVI, labels_key="kind", batch_key="kind") == []


def test_columns_of_one_name_in_two_modalities_are_two() -> None:
    mdata = draw_mudata()
    for part in mdata.mod.values():
        part.obs["kind"] = np.resize(["B", "T"], part.n_obs)
    for where, n_warnings in (({"labels_key": "prot"}, 0), ({"labels_key": "rna"}, 1), ({}, 1)):
        modalities = {"rna_layer": "rna", "protein_layer": "prot", **where}
        TOTALANVI.setup_mudata(mdata, labels_key="kind", batch_key="kind", modalities=modalities)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            TOTALANVI(mdata)
        assert sum("is named for the labels" in str(warning.message) for warning in caught) == n_warnings


def test_the_command_line_tells_and_trains(run: QuietRun, tmp_path: Path) -> None:
    draw_adata().write_h5ad(tmp_path / "reference.h5ad")
    words = ("train", tmp_path / "reference.h5ad", "--labels", "kind", "--batch", "kind", "--unlabeled", "unknown")
    code, said = run(*words, "--max-epochs", 1, "--device", "cpu", "--no-readout", "-o", tmp_path / "checkpoint")
    assert code == 0, said
    assert said.count(f"Warning: {WARNING.format('batch')}") == 1
