"""A simulated reference, trained once and exported once, for every test that wants the real thing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock
from tests.support.threads import one_thread

if TYPE_CHECKING:
    import mudata as md

ON_GPU = "TOTALANVI_TEST_GPU"
"""Set where tests may use a GPU: those of `tests/gpu`, which `make test-gpu` runs."""
if ON_GPU not in os.environ:
    # All others compare bits with what a CPU computes, and a GPU rounds in an order of its own.
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture(scope="session")
def reference_mdata() -> md.MuData:
    """400 cells × 160 genes × 12 proteins in two batches, four types in "cell_type", a tenth of them "unknown".

    Not to be changed.
    """
    from totalanvi.training import TOTALANVI, simulate

    mdata = simulate(n_cells=400, n_genes=160, n_proteins=12, n_labels=4, n_batches=2, seed=1)
    rna = mdata["rna"]
    rna.obs["cell_type"] = rna.obs["cell_type"].cat.add_categories("unknown")
    rna.obs.loc[rna.obs_names[::10], "cell_type"] = "unknown"
    TOTALANVI.setup_mudata(
        mdata,
        batch_key="batch",
        labels_key="cell_type",
        unlabeled_category="unknown",
        modalities={"rna_layer": "rna", "protein_layer": "prot", "labels_key": "rna"},
    )
    return mdata


@pytest.fixture(scope="session")
def checkpoint(reference_mdata: md.MuData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TotalANVI trained on 280 of these cells, the other 120 held out. Not to be changed."""
    from totalanvi.training import TOTALANVI

    with _shared(tmp_path_factory, "checkpoint") as folder, one_thread():
        if not folder.exists():
            model = TOTALANVI(reference_mdata, n_latent=8, n_hidden=64)
            model.train(
                max_epochs=15, train_size=0.7, batch_size=32, lr=1e-2, accelerator="cpu", progress=False, seed=0
            )
            model.fit_readout()
            model.save(folder)
    return folder


@pytest.fixture(scope="session")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of `checkpoint`. Not to be changed: copy it."""
    from totalanvi.export import export_bundle

    with _shared(tmp_path_factory, "bundle") as folder, one_thread():
        if not folder.exists():
            export_bundle(checkpoint, folder, name="simulated")
    return folder


@contextmanager
def _shared(factory: pytest.TempPathFactory, name: str) -> Iterator[Path]:
    """Hold a place that one of the processes which share the tests fills, while the others wait for it."""
    own = factory.getbasetemp()
    place = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / name
    with FileLock(f"{place}.lock"):
        yield place
