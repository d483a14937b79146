"""What a device looks up is what the searches of a CPU find: here on the CPU, by the same graphs."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.readout import draw_readout_arrays
from tests.support.toy_bundle import toy_cells

from totalanvi.export.reference_cells import aligned
from totalanvi.export.search_graphs import density_graph, nearest_graph
from totalanvi.export.source import read_source
from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.graphs import DENSITY, N_NEAREST, device_graphs
from totalanvi.serving.bundles.manifest_file import write_manifest
from totalanvi.serving.engine.candidates import nearest_of
from totalanvi.serving.engine.density import LabelDensities
from totalanvi.serving.engine.engine import Engine
from totalanvi.serving.engine.nearest import NearestSearch
from totalanvi.serving.mapped import MapOptions


def computed(graph: onnx.ModelProto, **feed: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, feed)[0]
    return found


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 24), st.integers(1, 40), st.integers(0, 1000))
def test_landmarks_are_found_as_by_the_search(n_points: int, n_dimensions: int, n_cells: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points, cells = (rng.normal(size=(n, n_dimensions)).astype(np.float32) for n in (n_points, n_cells))
    candidates = computed(nearest_graph(), latent=cells, landmarks=points)
    assert candidates.shape == (n_cells, min(N_NEAREST, n_points))
    n_nearest = min(16, n_points)
    index, distance = nearest_of(cells, points, candidates, n_nearest)
    expected, exact = NearestSearch(points).find(cells, n_nearest)
    np.testing.assert_array_equal(index, expected)
    np.testing.assert_array_equal(distance, exact)


@pytest.mark.parametrize("n_labels", [1, 3, 40])
def test_cells_lie_as_far_from_their_label(n_labels: int) -> None:
    arrays = draw_readout_arrays(n_labels, 6, 5, n_batches=2, seed=n_labels)
    densities = LabelDensities(arrays)
    components = np.random.default_rng(1).normal(size=(50, 6)).astype(np.float32)
    feed = dict(zip(DENSITY.inputs, (components, *densities.without_proteins()), strict=True))
    least = computed(density_graph(), **feed)
    nothing = np.zeros((50, 5), dtype=np.float32)
    expected = densities.surprise(components, nothing, nothing.astype(bool))
    np.testing.assert_allclose(densities.surprise_of(least[:, 0]), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("has_readout", [False, True])
def test_a_bundle_from_before_says_the_same(
    toy_folder: Path, bundle: Path, checkpoint: Path, tmp_path: Path, has_readout: bool
) -> None:
    """Without graphs that look up and impute there, the cores do it."""
    whole = bundle if has_readout else toy_folder
    folder = Path(shutil.copytree(whole, tmp_path / "old"))
    manifest = Bundle.open(folder).manifest
    late = [graph.file for graph in device_graphs(readout=has_readout)]
    for name in late:
        (folder / name).unlink()
    files = {name: record for name, record in manifest.files.items() if name not in late}
    assert len(files) == len(manifest.files) - len(late)
    write_manifest(folder, manifest.model_copy(update={"files": files}))
    cells = aligned(read_source(checkpoint).sample.held_out) if has_readout else toy_cells(700)[0]
    nothing = np.zeros_like(cells.measured)
    for query in (cells, replace(cells, protein=np.zeros_like(cells.protein), measured=nothing)):
        found, expected = (
            Engine(Bundle.open(each), "cpu", complete_graphs=True).run(query, MapOptions(samples=1)).arrays()
            for each in (folder, whole)
        )
        for name, array in expected.items():
            np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-4, err_msg=name)
