"""Real cells, where they are at hand, register and train as simulated ones do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import mudata as md
import numpy as np
import pytest
from tests.support.queries import REAL_DATA
from tests.support.threads import one_thread

from totalanvi.formats.mudata_options import not_pulling
from totalanvi.training import TOTALANVI
from totalanvi.training.data import UNLABELLED
from totalanvi.training.registration.register import register
from totalanvi.training.registration.setup_note import read_setup


def real(name: str) -> Path:
    """A file of real cells; the test is skipped where it is not."""
    if not (REAL_DATA / name).exists():
        pytest.skip(f"{name} is not at hand")
    return REAL_DATA / name


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def test_a_mosaic_of_batches_with_and_without_proteins() -> None:
    with not_pulling():
        mdata = md.read_h5mu(real("pbmc_mosaic.h5mu"))
    TOTALANVI.setup_mudata(
        mdata,
        batch_key="batch",
        labels_key="celltype",
        unlabeled_category="other",
        modalities={"rna_layer": "rna", "protein_layer": "adt"},
    )
    with pytest.warns(UserWarning, match="400 cells have no RNA and are left out"):
        model = TOTALANVI(mdata, n_hidden=32)
    assert model.n_cells == 1200
    # One of the three batches with RNA has no proteins.
    assert model.registry.panel_mask().any(axis=1).sum() == 2
    model.train(max_epochs=1, accelerator="cpu", progress=False)
    assert np.isfinite(model.history["elbo_validation"].to_numpy()).all()
    rna_only = np.flatnonzero(~model._cells.measured.any(axis=1))
    assert len(rna_only) == 400
    assert np.isfinite(model.predict(soft=True, indices=rna_only)).all().all()
    _, proteins = model.get_normalized_expression(
        indices=rna_only, gene_list=[], transform_batch=model.registry.batches
    )
    assert np.isfinite(proteins).all().all()


def test_many_fine_labels() -> None:
    """With 41 types most labels are drawn, not enumerated."""
    adata = ad.read_h5ad(real("bmmc_citeseq_small.h5ad"))
    TOTALANVI.setup_anndata(adata, "protein_expression", labels_key="cell_type")
    model = TOTALANVI(adata, n_hidden=32)
    assert len(model.registry.labels) > 30
    model.train(max_epochs=1, accelerator="cpu", progress=False)
    assert np.isfinite(model.history["elbo_train"].to_numpy()).all()
    assert np.allclose(model.predict(soft=True).sum(axis=1), 1.0, atol=1e-4)


def test_two_values_that_mean_unlabelled() -> None:
    adata = ad.read_h5ad(real("pbmc10k_citeseq.h5ad"))
    TOTALANVI.setup_anndata(
        adata, "protein_expression", labels_key="gated_l1", unlabeled_category=["undefined", "unmatched"]
    )
    registry, cells = register(adata, read_setup(adata))
    assert cells.rna.shape == (6855, 4000)
    assert len(registry.proteins) == 14
    assert len(registry.labels) == 5
    unlabelled = adata.obs["gated_l1"].isin(["undefined", "unmatched"]).to_numpy()
    assert 0 < unlabelled.sum() < len(cells)
    assert np.array_equal(cells.label == UNLABELLED, unlabelled)
    assert cells.measured.all()
