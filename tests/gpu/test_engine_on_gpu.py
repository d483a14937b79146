"""The engine on a GPU answers as the one on a CPU does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.engine.engine import Engine
from totalanvi.serving.mapped import MapOptions

MAY_BE_UNKNOWN = ("protein_low", "protein_high")


def random_cells(n_cells: int, n_genes: int, n_proteins: int) -> AlignedCells:
    """Draw cells of a tenth of the genes, a quarter of them without proteins."""
    rng = np.random.default_rng(0)
    rna = sparse.random(n_cells, n_genes, 0.1, "csr", rng=rng, data_rvs=lambda n: rng.integers(1, 20, n))
    rna = sparse.csr_matrix(rna, dtype=np.float32)
    rna.sort_indices()
    measured = np.repeat(rng.random(n_cells) < 0.75, n_proteins).reshape(n_cells, n_proteins)
    protein = np.where(measured, rng.integers(0, 200, (n_cells, n_proteins)), 0).astype(np.float32)
    return AlignedCells(rna, np.asarray(rna.sum(axis=1), dtype=np.float32).ravel(), protein, measured)


@pytest.mark.parametrize("options", [MapOptions(impute=False), MapOptions(samples=1), MapOptions(samples=25)], ids=str)
@pytest.mark.parametrize("n_cells", [1, 100, 3000, 40_000])
def test_both_devices_agree(bundle: Path, options: MapOptions, n_cells: int) -> None:
    opened = Bundle.open(bundle)
    cells = random_cells(n_cells, len(opened.manifest.genes.names), len(opened.manifest.proteins))
    there, here = (Engine(opened, provider).run(cells, options).arrays() for provider in ("cuda", "cpu"))
    assert there.keys() == here.keys()
    for name, expected in here.items():
        if expected.dtype.kind == "f":
            close = {"rtol": 1e-3, "atol": 1e-3}
            np.testing.assert_allclose(there[name], expected, **close, equal_nan=name in MAY_BE_UNKNOWN, err_msg=name)
        else:
            assert np.mean(there[name] == expected) > 0.99, name
