"""The engine against the toy model worked out in NumPy."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from scipy import sparse
from tests.support.toy_bundle import TOY, toy_cells

from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.engine import engine as engine_module
from totalanvi.serving.engine.engine import BLOCK_SIZES, AbandonedError, Engine
from totalanvi.serving.engine.feeds import Block, SparseFeeds, blocks_of
from totalanvi.serving.errors import QueryError
from totalanvi.serving.mapped import MapOptions

PLUG_IN = MapOptions(samples=1)


@pytest.fixture(scope="module")
def engine(toy_folder: Path) -> Engine:
    return Engine(Bundle.open(toy_folder), provider="cpu")


class ToyModel:
    """The toy model, read from its constants and computed in float64."""

    def __init__(self, folder: Path) -> None:
        self.constants = {
            name: {c.name: numpy_helper.to_array(c).astype(float) for c in onnx.load(folder / name).graph.initializer}
            for name in ("encoder.onnx", "classifier.onnx", "proteins.onnx")
        }

    def encode(self, cells: AlignedCells) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        c = self.constants["encoder.onnx"]
        library = cells.library[:, None].astype(float)
        z_mean = (
            np.log1p(cells.rna.toarray() / (1 + library / len(TOY.genes))) @ c["gene_weight"]
            + (np.log1p(cells.protein) * cells.measured) @ c["protein_weight"]
            + np.log1p(library) @ c["depth_weight"]
        )
        return z_mean, 0.1 * np.abs(z_mean) + 0.1

    def classify(self, z_mean: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        logits: np.ndarray[Any, Any] = (z_mean / (1 + np.abs(z_mean))) @ self.constants["classifier.onnx"]["weight"]
        return logits

    def decode(self, z: np.ndarray[Any, Any], batch: int, background: bool) -> np.ndarray[Any, Any]:
        c = self.constants["proteins.onnx"]
        level = np.exp(z @ c["decode_weight"] + c["batch_weight"][batch] + c["decode_bias"])
        return level + c["background_weight"][batch] * background


def softmax(logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: np.ndarray[Any, Any] = powers / powers.sum(axis=1, keepdims=True)
    return shares


def test_labels_and_probabilities(toy_folder: Path, engine: Engine) -> None:
    cells, truth = toy_cells(600)
    mapped = engine.run(cells, MapOptions())
    assert (mapped.guess == truth).mean() > 0.99
    toy = ToyModel(toy_folder)
    z_mean, _ = toy.encode(cells)
    np.testing.assert_allclose(mapped.latent, z_mean / (1 + np.abs(z_mean)), rtol=1e-5)
    # The temperatures that the bundle gives to cells with proteins and to cells without.
    expected = softmax(toy.classify(z_mean) / np.where(cells.has_protein, 0.8, 1.5)[:, None])
    np.testing.assert_allclose(mapped.probabilities, expected, rtol=1e-4)
    np.testing.assert_array_equal(mapped.guess, mapped.probabilities.argmax(axis=1))
    np.testing.assert_array_equal(mapped.confidence, mapped.probabilities.max(axis=1))
    np.testing.assert_allclose(mapped.probabilities.sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("background", ["exclude", "include"])
@pytest.mark.parametrize("samples", [1, 2, 40])
def test_proteins(toy_folder: Path, engine: Engine, samples: int, background: Any) -> None:
    cells, _ = toy_cells(30)
    mapped = engine.run(cells, MapOptions(samples=samples, background=background))
    toy = ToyModel(toy_folder)
    z_mean, z_scale = toy.encode(cells)
    noise = np.zeros((1, TOY.n_latent))
    if samples > 1:
        noise = np.random.default_rng(7).standard_normal((samples, TOY.n_latent))
    z = z_mean + noise[:, None] * z_scale
    first, second = (toy.decode(z, batch, background == "include").mean(axis=0) for batch in (0, 1))
    expected = (first + second) / 2
    expected[:, -1] = second[:, -1]  # the first batch did not measure the last protein
    assert mapped.protein is not None
    np.testing.assert_allclose(mapped.protein, expected, rtol=2e-5)


def test_without_imputation(engine: Engine) -> None:
    cells, _ = toy_cells(10)
    without = engine.run(cells, MapOptions(impute=False))
    assert without.protein is None
    np.testing.assert_array_equal(without.probabilities, engine.run(cells, MapOptions()).probabilities)


def test_novelty_tells_known_cells_from_unknown(engine: Engine) -> None:
    known, _ = toy_cells(500, seed=9)
    novelty = engine.run(known, PLUG_IN).novelty
    for has_protein in (True, False):
        of_mode = novelty[known.has_protein == has_protein]
        assert 0.35 < np.median(of_mode) < 0.65
        assert 0.8 < np.quantile(of_mode, 0.9) <= 1
    # Cells that express no label's markers, at the depth of the others.
    rna = known.rna.toarray()[:, ::-1].copy()
    rna[:, :40] = 0
    unknown = replace(known.rows(~known.has_protein), rna=sparse.csr_matrix(rna[~known.has_protein]))
    assert engine.run(unknown, PLUG_IN).novelty.min() > 0.99


def test_coordinates_lie_where_the_label_is(toy_folder: Path, engine: Engine) -> None:
    cells, truth = toy_cells(300)
    reference = Bundle.open(toy_folder).reference
    centres = np.stack([reference.coordinates[reference.label == k].mean(axis=0) for k in range(len(TOY.labels))])
    coordinates = engine.run(cells, PLUG_IN).coordinates
    assert np.linalg.norm(coordinates - centres[truth], axis=1).max() < 1.5


@pytest.mark.parametrize("n_cells", [0, 1, *(size + extra for size in BLOCK_SIZES for extra in (0, 1))])
def test_any_number_of_cells(engine: Engine, n_cells: int) -> None:
    cells, _ = toy_cells(n_cells)
    mapped = engine.run(cells, PLUG_IN)
    assert len(mapped) == n_cells
    assert mapped.probabilities.shape == (n_cells, len(TOY.labels))
    assert mapped.latent.shape == (n_cells, TOY.n_latent)
    assert mapped.protein is not None
    assert mapped.protein.shape == (n_cells, len(TOY.proteins))
    dtypes = {name: array.dtype for name, array in mapped.arrays().items()}
    others = {"label": np.int32, "guess": np.int32, "certain": np.int32, "label_set": np.bool_}
    assert dtypes == {name: others.get(name, np.float32) for name in dtypes}


def test_edge_cells(engine: Engine) -> None:
    rna = np.zeros((4, len(TOY.genes)), dtype=np.float32)
    rna[1, 3] = 1
    rna[2] = 1e6
    rna[3, 0] = 1e9
    none = np.zeros((4, len(TOY.proteins)), dtype=np.float32)
    mapped = engine.run(AlignedCells(sparse.csr_matrix(rna), rna.sum(axis=1), none, none.astype(bool)), MapOptions())
    control = TOY.proteins.index("IgG1")
    for name, array in mapped.arrays().items():
        known = np.delete(array, control, axis=1) if name in ("protein_low", "protein_high") else array
        assert np.isfinite(known).all()


def test_novel_cells_are_unknown_unless_their_label_is_to_be_kept(engine: Engine) -> None:
    cells, truth = toy_cells(500, seed=9)
    rates = (0, 0.01, 0.2)
    mapped = {rate: engine.run(cells, MapOptions(impute=False, false_positive_rate=rate)) for rate in rates}
    for rate, found in mapped.items():
        unknown = found.label == len(TOY.labels)
        np.testing.assert_array_equal(unknown, found.novelty > 1 - rate)
        np.testing.assert_array_equal(found.label[~unknown], found.guess[~unknown])
        np.testing.assert_array_equal(found.guess, mapped[0].label)
    assert (mapped[0].label == truth).mean() > 0.99
    assert 0.1 < (mapped[0.2].label == len(TOY.labels)).mean() < 0.3
    kept = engine.run(cells, MapOptions(impute=False, false_positive_rate=0.2, keep_unknown_labels=True))
    np.testing.assert_array_equal(kept.label, kept.guess)
    np.testing.assert_array_equal(kept.novelty, mapped[0.2].novelty)


def test_a_label_that_is_not_certain_gives_way_to_its_parent(engine: Engine) -> None:
    cells, _ = toy_cells(300)
    rna = cells.rna.toarray()
    # The markers of both T cell types, one as much as the other.
    rna[:, 10:30] = 4
    query = replace(cells, rna=sparse.csr_matrix(rna), protein=0 * cells.protein, measured=cells.measured & False)
    names = ["B cell", "CD4 T", "CD8 T", "NK", "T cell", "lymphocyte", "unknown"]
    options = {"impute": False, "false_positive_rate": 0.0}
    found = {share: engine.run(query, MapOptions(**options, certainty=share)) for share in (0.5, 0.9, 1)}
    for share, mapped in found.items():
        at_least = mapped.confidence >= share
        np.testing.assert_array_equal(mapped.certain[at_least], mapped.guess[at_least])
        assert (mapped.certain[~at_least] >= len(TOY.labels)).all()
    mapped = found[0.9]
    t_cell = (mapped.confidence < 0.9) & (mapped.probabilities[:, 1:3].sum(axis=1) >= 0.9)
    assert t_cell.mean() > 0.3
    np.testing.assert_array_equal(np.array(names)[mapped.certain] == "T cell", t_cell & (mapped.guess % 3 > 0))
    unknown = engine.run(query, MapOptions(impute=False, false_positive_rate=0.5))
    novel = unknown.label == len(TOY.labels)
    assert novel.any()
    assert {names[code] for code in unknown.certain[novel]} == {"unknown"}


@pytest.mark.parametrize("panel", [0, 3, 6])
def test_each_mode_has_its_own_calibration(engine: Engine, panel: int) -> None:
    cells, truth = toy_cells(2000, seed=11, measured_share=1)
    measured = np.broadcast_to(np.arange(len(TOY.proteins)) < panel, cells.measured.shape)
    query = replace(cells, protein=np.where(measured, cells.protein, np.float32(0)), measured=measured)
    for coverage in (0.6, 0.9):
        mapped = engine.run(query, MapOptions(impute=False, coverage=coverage))
        assert mapped.label_set[np.arange(2000), truth].mean() == pytest.approx(coverage, abs=0.12)
    assert (mapped.novelty > 0.9).mean() == pytest.approx(0.1, abs=0.07)


def test_imputing_as_one_batch(toy_folder: Path, engine: Engine) -> None:
    cells, _ = toy_cells(30)
    toy = ToyModel(toy_folder)
    z_mean, _ = toy.encode(cells)
    for batch, name in enumerate(TOY.batches):
        mapped = engine.run(cells, MapOptions(samples=1, background="include", impute_as=name))
        expected = toy.decode(z_mean, batch, background=True)
        expected[:, -1] = toy.decode(z_mean, 1, background=True)[:, -1]  # the first batch did not measure it
        np.testing.assert_allclose(mapped.protein, expected, rtol=2e-5)
    with pytest.raises(QueryError, match="that measured proteins, 'run1', 'run2'; found 'run3'"):
        engine.run(cells, MapOptions(impute_as="run3"))


def test_intervals_and_foreground(engine: Engine) -> None:
    cells, _ = toy_cells(30)
    narrow, wide = (engine.run(cells, MapOptions(samples=1, coverage=coverage)) for coverage in (0.5, 0.95))
    expected = engine.run(cells, MapOptions(samples=1, background="include")).protein
    assert expected is not None
    known = np.arange(len(TOY.proteins) - 1)
    for inner, outer in ((narrow.protein_low, wide.protein_low), (wide.protein_high, narrow.protein_high)):
        assert inner is not None
        assert outer is not None
        assert (inner[:, known] >= outer[:, known]).all()
    for low, high in ((narrow.protein_low, narrow.protein_high), (wide.protein_low, wide.protein_high)):
        assert low is not None
        assert high is not None
        assert (low >= 0)[:, known].all()
        assert ((low < expected) & (expected < high))[:, known].all()
        # Too few held-out cells measured the last protein.
        assert np.isnan(low[:, -1]).all()
        assert np.isnan(high[:, -1]).all()
    assert wide.protein_foreground is not None
    assert ((wide.protein_foreground > 0) & (wide.protein_foreground < 1)).all()


def test_threads_share_one_engine(engine: Engine) -> None:
    cells, _ = toy_cells(1_200)
    parts = [cells.rows(slice(start, start + 150)) for start in range(0, 1_200, 150)]
    whole = engine.run(cells, MapOptions(samples=3))
    with ThreadPoolExecutor(4) as pool:
        mapped = list(pool.map(lambda part: engine.run(part, MapOptions(samples=3)), parts))
    for i, part in enumerate(mapped):
        for name, array in part.arrays().items():
            np.testing.assert_allclose(array, whole.arrays()[name][150 * i : 150 * (i + 1)], rtol=1e-6, atol=1e-7)


def test_an_engine_takes_its_threads_with_it(toy_folder: Path) -> None:
    def names() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("totalanvi-engine")]

    before, engine = names(), Engine(Bundle.open(toy_folder), provider="cpu", threads=2)
    engine.run(toy_cells(1500)[0], MapOptions(impute=False))
    assert len(names()) > len(before)
    del engine
    end = time.monotonic() + 20
    while len(names()) > len(before) and time.monotonic() < end:
        time.sleep(0.01)
    assert names() == before


def test_cells_of_another_reference(engine: Engine) -> None:
    cells, _ = toy_cells(3)
    other = replace(cells, rna=cells.rna[:, :59].tocsr())
    with pytest.raises(QueryError, match="aligned to the 60 genes and 6 proteins of 'toy', found 59 genes"):
        engine.run(other, PLUG_IN)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_warm_computes_every_block_size(
    toy_folder: Path, threads: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sizes = set()

    def watched(*of: Any) -> list[Block]:
        blocks = list(blocks_of(*of))
        sizes.update(block.size for block in blocks)
        return blocks

    monkeypatch.setattr(engine_module, "blocks_of", watched)
    engine = Engine(Bundle.open(toy_folder), provider="cpu", threads=threads)
    with caplog.at_level(logging.INFO, logger="totalanvi.serving"):
        engine.warm()
    assert sizes == set(BLOCK_SIZES)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("Warm on cpu after")


class SetAfter(threading.Event):
    """An event that is set once it has been looked at so often; counts how often it was seen unset."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.seen_unset = 0
        self._looks = looks
        self._counting = threading.Lock()

    def is_set(self) -> bool:
        with self._counting:
            if self.seen_unset == self._looks:
                return True
            self.seen_unset += 1
            return False


@pytest.mark.parametrize("threads", [1, 2])
def test_no_further_block_is_computed_once_nobody_waits(
    toy_folder: Path, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[Block] = []
    feed = SparseFeeds.feed
    monkeypatch.setattr(SparseFeeds, "feed", lambda feeds, block: computed.append(block) or feed(feeds, block))
    engine = Engine(Bundle.open(toy_folder), provider="cpu", threads=threads)

    with pytest.raises(AbandonedError):
        engine.run(toy_cells(8 * BLOCK_SIZES[-1])[0], PLUG_IN, SetAfter(looks=2))

    assert len(computed) == 2


def test_who_waits_to_the_end_gets_everything(engine: Engine) -> None:
    cells = toy_cells(100)[0]

    found = engine.run(cells, PLUG_IN, threading.Event())

    assert (found.latent == engine.run(cells, PLUG_IN).latent).all()
