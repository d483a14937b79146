"""The engine on a GPU answers as the one on a CPU does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from tests.support.toy_bundle import toy_cells, write_toy_bundle

from totalanvi.export import export_bundle
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


def assert_alike(bundle: Bundle, cells: AlignedCells, options: MapOptions, tolerance: float = 1e-3) -> None:
    there, here = (Engine(bundle, provider).run(cells, options).arrays() for provider in ("cuda", "cpu"))
    assert there.keys() == here.keys()
    for name, expected in here.items():
        if expected.dtype.kind == "f":
            close = {"rtol": tolerance, "atol": tolerance}
            np.testing.assert_allclose(there[name], expected, **close, equal_nan=name in MAY_BE_UNKNOWN, err_msg=name)
        else:
            assert np.mean(there[name] == expected) > 0.99, name


@pytest.mark.parametrize("options", [MapOptions(impute=False), MapOptions(samples=1), MapOptions(samples=25)], ids=str)
@pytest.mark.parametrize("n_cells", [1, 100, 3000, 40_000])
def test_both_devices_agree(bundle: Path, options: MapOptions, n_cells: int) -> None:
    opened = Bundle.open(bundle)
    assert_alike(
        opened, random_cells(n_cells, len(opened.manifest.genes.names), len(opened.manifest.proteins)), options
    )


@pytest.mark.parametrize("whole", [True, False])
def test_both_devices_agree_without_a_readout(tmp_path: Path, whole: bool) -> None:
    """One of its proteins has no bounds: that stays so on a device."""
    opened = Bundle.open(write_toy_bundle(tmp_path / "toy"))
    as_batch = MapOptions(samples=1, impute_as=opened.manifest.batches[0] if whole else None)
    assert_alike(opened, toy_cells(3000)[0], as_batch)


def test_both_devices_agree_in_float16(checkpoint: Path, tmp_path: Path) -> None:
    """A device multiplies in it, a CPU in float32: as far as float16 rounds, what was calibrated holds there."""
    opened = Bundle.open(export_bundle(checkpoint, tmp_path / "half", precision="float16"))
    cells = random_cells(3000, len(opened.manifest.genes.names), len(opened.manifest.proteins))
    assert_alike(opened, cells, MapOptions(samples=1), tolerance=3e-2)
