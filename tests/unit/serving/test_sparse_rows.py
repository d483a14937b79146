"""First layers from sparse rows: what a dense product of the same cells gives, and what the complete graphs give."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse
from tests.support.toy_bundle import sign, toy_cells, write_toy_bundle

from totalanvi.export.reference_cells import aligned
from totalanvi.export.source import read_source
from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.first_layer import EncoderFirst, FirstLayer, ReadoutFirst
from totalanvi.serving.bundles.graphs import (
    ENCODER_PANEL,
    ENCODER_REST,
    ENCODER_RNA,
    READOUT_LABELS,
    READOUT_PANEL,
    READOUT_REST,
    READOUT_RNA,
    GraphSignature,
)
from totalanvi.serving.bundles.manifest import MANIFEST_FILE
from totalanvi.serving.bundles.sixteen_bits import is_bfloat16
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.engine.engine import Engine
from totalanvi.serving.engine.feeds import BLOCK_SIZES, SparseFeeds, blocks_of
from totalanvi.serving.engine.sparse_rows import Rows, SparseLayer
from totalanvi.serving.mapped import MapOptions

N_CELLS, N_GENES = 40, 90
MANY_GENES = 7_000
"""Their weights are looked at in several parts."""


def draw_layer(
    kind: type[FirstLayer], n_columns: int, seed: int = 0, n_genes: int = N_GENES, *, rounded: bool = False
) -> FirstLayer:
    rng = np.random.default_rng(seed)
    shapes = ((n_genes, n_columns), (n_genes,), (n_columns,))
    layer = kind(*(rng.standard_normal(shape).astype(np.float32) for shape in shapes))
    return replace(layer, weight=in_bfloat16(layer.weight)) if rounded else layer


def in_bfloat16(weight: np.ndarray) -> np.ndarray:
    """Weights that fit into 16 bits, in float32."""
    return torch.from_numpy(weight).to(torch.bfloat16).float().numpy()


def draw_cells(density: float, seed: int = 1, n_genes: int = N_GENES) -> AlignedCells:
    rng = np.random.default_rng(seed)
    rna = rng.poisson(3, (N_CELLS, n_genes)) * (rng.random((N_CELLS, n_genes)) < density)
    rna[3] = 0
    rna[4], rna[4, 7] = 0, 5
    none = np.zeros((N_CELLS, 2), dtype=np.float32)
    rna = rna.astype(np.float32)
    return AlignedCells(sparse.csr_matrix(rna), rna.sum(axis=1), none, none.astype(bool))


def dense(layer: FirstLayer, cells: AlignedCells) -> np.ndarray:
    """What `totalanvi.training.readout.network.ReadoutNetwork.project` says, in float64."""
    scale = layer.scale(cells.library, cells.n_genes).astype(float)
    present = np.ones(cells.n_genes) if cells.present is None else cells.present
    centred = np.log1p(cells.rna.toarray() * scale[:, None]) - present * layer.centre
    return centred @ layer.weight.astype(float) + layer.offset


@pytest.mark.parametrize("kind", [EncoderFirst, ReadoutFirst])
@pytest.mark.parametrize("n_columns", [1, 16, 37])
@pytest.mark.parametrize("density", [0.02, 0.1, 1.0])
@pytest.mark.parametrize("lacks_genes", [False, True])
@pytest.mark.parametrize("rounded", [False, True])
def test_a_layer_is_a_product(
    kind: type[FirstLayer], n_columns: int, density: float, lacks_genes: bool, rounded: bool
) -> None:
    layer, cells = draw_layer(kind, n_columns, rounded=rounded), draw_cells(density)
    assert is_bfloat16(layer.weight) == rounded
    if lacks_genes:
        present = np.arange(N_GENES) % 3 != 0
        rna = sparse.csr_matrix(cells.rna.multiply(present), dtype=np.float32)
        cells = replace(cells, rna=rna, present=present)
    ready = SparseLayer(layer)
    found = np.full((N_CELLS, n_columns), np.nan, dtype=np.float32)
    for rows in (slice(0, 7), slice(7, N_CELLS)):
        ready.apply(Rows.of(cells.rna, rows), cells.library[rows], ready.start(cells.present), out=found[rows])
    np.testing.assert_allclose(found, dense(layer, cells), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("n_columns", [37, 170, 256])
@pytest.mark.parametrize("rounded", [False, True])
def test_many_genes_are_taken_part_by_part(n_columns: int, rounded: bool) -> None:
    layer = draw_layer(EncoderFirst, n_columns, n_genes=MANY_GENES, rounded=rounded)
    cells = draw_cells(0.05, n_genes=MANY_GENES)
    ready = SparseLayer(layer)
    together, alone = (np.full((N_CELLS, n_columns), np.nan, dtype=np.float32) for _ in range(2))
    start = ready.start(None)
    ready.apply(Rows.of(cells.rna, slice(0, N_CELLS)), cells.library, start, out=together)
    for row in range(N_CELLS):
        one = slice(row, row + 1)
        ready.apply(Rows.of(cells.rna, one), cells.library[one], start, out=alone[one])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_allclose(together, dense(layer, cells), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("rounded", [False, True])
def test_large_terms_that_cancel_leave_no_rounding(rounded: bool) -> None:
    layer = draw_layer(ReadoutFirst, 20, rounded=rounded)
    large = ReadoutFirst(layer.weight, np.full(N_GENES, 4000, np.float32), layer.offset)
    cells, ready, start = draw_cells(1.0), SparseLayer(large), SparseLayer(large).start(None)
    found = np.empty((N_CELLS, 20), dtype=np.float32)
    ready.apply(Rows.of(cells.rna, slice(0, N_CELLS)), cells.library, start, out=found)
    np.testing.assert_allclose(found, dense(large, cells), rtol=2e-6, atol=1e-3)


def test_halves_are_added_up_as_the_same_weights_in_full() -> None:
    layer, cells = draw_layer(ReadoutFirst, 170, rounded=True), draw_cells(0.5)
    # With one number that 16 bits do not hold, of a gene that no cell has, all are taken as they are.
    rna = sparse.csr_matrix(cells.rna.multiply(np.arange(N_GENES) > 0), dtype=np.float32)
    full = replace(layer, weight=layer.weight.copy(), centre=layer.centre * (np.arange(N_GENES) > 0))
    full.weight[0, 0] = 0.1
    assert not is_bfloat16(full.weight)
    paired, single = (
        _fed(replace(cells, rna=rna), SparseLayer(each)) for each in (replace(layer, centre=full.centre), full)
    )
    np.testing.assert_array_equal(paired, single)


def test_rows_come_in_any_form() -> None:
    cells, layer = draw_cells(0.3), SparseLayer(draw_layer(EncoderFirst, 20))
    usual = _fed(cells, layer)
    rna = cells.rna.tocoo()
    # Backwards, each count in two parts, by 64-bit indices that nobody may write to.
    rows, columns, halves = (np.concatenate([part[::-1]] * 2) for part in (rna.row, rna.col, rna.data / 2))
    order = np.argsort(rows, kind="stable")
    pointers = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=N_CELLS))])
    odd = sparse.csr_matrix(rna.shape, dtype=np.float32)
    odd.data, odd.indices, odd.indptr = halves[order], columns[order].astype(np.int64), pointers.astype(np.int64)
    for array in (odd.data, odd.indices, odd.indptr):
        array.flags.writeable = False
    assert np.array_equal(_fed(replace(cells, rna=odd), layer), usual)


def _fed(cells: AlignedCells, layer: SparseLayer) -> np.ndarray:
    feeds = SparseFeeds(cells, 2, layer, None, (ENCODER_REST, READOUT_REST), None)
    return np.concatenate([feeds.feed(block)["from_rna"][: block.n_rows] for block in blocks_of(len(cells))])


@pytest.mark.parametrize("n_cells", [0, 1, 8, 9, 63, 500, 512, 700, 5_000])
@pytest.mark.parametrize("workers", [1, 2, 16])
def test_blocks_hold_every_cell_once(n_cells: int, workers: int) -> None:
    blocks = list(blocks_of(n_cells, workers))
    assert [row for block in blocks for row in range(n_cells)[block.rows]] == list(range(n_cells))
    assert all(block.n_rows <= block.size and block.size in BLOCK_SIZES for block in blocks)


def assert_alike(folder: Path, cells: AlignedCells) -> None:
    bundle, options = Bundle.open(folder), MapOptions(samples=2)
    found = Engine(bundle, provider="cpu").score(cells, options)
    complete = Engine(bundle, provider="cpu", complete_graphs=True).score(cells, options)
    for name in ("latent", "logits", "novelty", "coordinates"):
        np.testing.assert_allclose(getattr(found, name), getattr(complete, name), rtol=1e-4, atol=1e-4, err_msg=name)
    assert found.imputed is not None
    assert complete.imputed is not None
    np.testing.assert_allclose(found.imputed.expected, complete.imputed.expected, rtol=1e-4, atol=1e-4)


def test_the_complete_graphs_say_the_same(tmp_path: Path) -> None:
    cells, _ = toy_cells(600)
    assert_alike(write_toy_bundle(tmp_path / "toy"), cells)


@pytest.mark.parametrize("lacks_genes", [False, True])
def test_the_complete_graphs_of_a_readout_say_the_same(bundle: Path, checkpoint: Path, lacks_genes: bool) -> None:
    cells = aligned(read_source(checkpoint).sample.held_out)
    if lacks_genes:
        present = np.arange(cells.n_genes) % 4 != 0
        rna = sparse.csr_matrix(cells.rna.multiply(present), dtype=np.float32)
        cells = replace(cells, rna=rna, present=present)
    assert_alike(bundle, cells)


LABEL_GRAPHS = {READOUT_LABELS, ENCODER_PANEL, READOUT_PANEL, ENCODER_RNA, READOUT_RNA}


def without(bundle: Path, folder: Path, graphs: set[GraphSignature]) -> Path:
    """Copy a bundle as it was before these graphs were added."""
    before = Path(shutil.copytree(bundle, folder))
    manifest = json.loads((before / MANIFEST_FILE).read_text())
    for graph in graphs:
        (before / graph.file).unlink()
        del manifest["files"][graph.file]
    (before / MANIFEST_FILE).write_text(json.dumps(manifest))
    sign(before)
    return before


@pytest.mark.parametrize("panel", ["whole", "part", "none"])
def test_labels_of_one_panel_are_those_of_cells_among_others(bundle: Path, checkpoint: Path, panel: str) -> None:
    mixed = aligned(read_source(checkpoint).sample.held_out)
    measured = np.broadcast_to(
        {"whole": True, "part": np.arange(mixed.n_proteins) % 3 == 0, "none": False}[panel], mixed.measured.shape
    ).copy()
    cells = replace(mixed, protein=mixed.protein * measured, measured=measured)
    others = replace(mixed, measured=np.ones_like(measured), protein=mixed.protein)
    others.measured[:, 0], others.protein[:, 0] = False, 0
    assert cells.has_one_panel
    both = AlignedCells(
        *(sparse.vstack([cells.rna, others.rna], format="csr"), np.concatenate([cells.library, others.library])),
        *(np.concatenate([getattr(cells, name), getattr(others, name)]) for name in ("protein", "measured")),
    )
    assert not both.has_one_panel
    engine, labels_alone = Engine(Bundle.open(bundle), provider="cpu"), MapOptions(impute=False)
    found, among_others = engine.run(cells, labels_alone), engine.run(both, labels_alone).rows(slice(0, len(cells)))
    complete = Engine(Bundle.open(bundle), provider="cpu", complete_graphs=True).run(cells, labels_alone)
    for name in ("latent", "probabilities", "novelty", "coordinates"):
        np.testing.assert_allclose(getattr(found, name), getattr(among_others, name), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(getattr(found, name), getattr(complete, name), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("lacks", [{ENCODER_RNA, READOUT_RNA}, LABEL_GRAPHS], ids=["of RNA", "all"])
@pytest.mark.parametrize("with_proteins", [True, False])
def test_a_bundle_from_before_is_served_as_before(
    bundle: Path, checkpoint: Path, tmp_path: Path, lacks: set[GraphSignature], with_proteins: bool
) -> None:
    """Without the graphs for labels alone, which were added later."""
    before = without(bundle, tmp_path / "before", lacks)
    cells = aligned(read_source(checkpoint).sample.held_out, with_proteins=with_proteins)
    labels_alone = MapOptions(impute=False)
    found, now = (Engine(Bundle.open(folder), provider="cpu").run(cells, labels_alone) for folder in (before, bundle))
    for name in ("latent", "probabilities", "novelty"):
        np.testing.assert_allclose(getattr(found, name), getattr(now, name), rtol=1e-5, atol=1e-5)
