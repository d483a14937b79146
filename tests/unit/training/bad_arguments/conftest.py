"""A small model to give bad arguments to."""

from __future__ import annotations

import anndata as ad
import pytest
from tests.support.reference_cells import FAST, PROTEINS, draw_adata

from totalanvi.training import TOTALANVI


@pytest.fixture(scope="module")
def adata() -> ad.AnnData:
    """20 cells, set up. Not to be changed."""
    adata = draw_adata()
    TOTALANVI.setup_anndata(adata, PROTEINS, batch_key="donor", labels_key="kind", unlabeled_category="unknown")
    return adata


@pytest.fixture(scope="module")
def model(adata: ad.AnnData) -> TOTALANVI:
    """A model of these cells, trained for a moment. Not to be changed."""
    model = TOTALANVI(adata, n_latent=3, n_hidden=8)
    model.train(max_epochs=1, **FAST)
    return model
