"""Parity fails loudly, by name, when a file does not compute what torch does."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tests.support.toy_bundle import sign

from totalanvi.export.errors import ExportError, ParityError
from totalanvi.export.parity import check_parity
from totalanvi.export.parity_figures import TOLERANCE, relative_error
from totalanvi.export.probes import N_DRAWN, probe_cells
from totalanvi.export.source import Source, read_source
from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.graphs import (
    CLASSIFIER,
    ENCODER,
    ENCODER_PANEL,
    ENCODER_REST,
    ENCODER_RNA,
    PROTEINS,
    READOUT,
    READOUT_LABELS,
    READOUT_PANEL,
    READOUT_REST,
    READOUT_RNA,
    ROWS,
)


@pytest.fixture(scope="module")
def source(checkpoint: Path) -> Source:
    return read_source(checkpoint)


def test_relative_error() -> None:
    assert relative_error(np.array([2.0, 5.0]), np.array([2.0, 4.0]), floor=0.1) == pytest.approx(0.25)
    assert relative_error(np.array([0.003]), np.array([0.001]), floor=0.1) == pytest.approx(0.02)
    assert relative_error(np.array([np.nan]), np.array([np.nan]), floor=0.1) == np.inf
    assert relative_error(np.array([np.inf]), np.array([np.inf]), floor=0.1) == np.inf
    assert relative_error(np.zeros((2, 1)), np.zeros((1, 2)), floor=0.1) == np.inf


def test_every_output_is_held_to_the_tolerance(bundle: Path) -> None:
    figures = {(p.graph, p.output): p for p in Bundle.open(bundle).manifest.parity}
    outputs = {
        (graph.file.removesuffix(".onnx"), output)
        for graph in (
            *(ENCODER, CLASSIFIER, PROTEINS, READOUT, ROWS),
            *(ENCODER_REST, READOUT_REST, READOUT_LABELS, ENCODER_PANEL, READOUT_PANEL, ENCODER_RNA, READOUT_RNA),
        )
        for output in graph.outputs
    }
    assert outputs < figures.keys()
    assert figures.keys() - outputs == {
        (engine, output)
        for engine in ("engine", "engine, complete graphs")
        for output in ("latent", "probabilities", "protein")
    }
    for figure in figures.values():
        assert 0 <= figure.relative_error <= figure.tolerance == TOLERANCE
        assert figure.n_cells > N_DRAWN


def test_a_bundle_can_be_checked_again(bundle: Path, source: Source) -> None:
    """Other cells, and temperatures that are no longer 1."""
    opened = Bundle.open(bundle)
    assert opened.manifest.calibration["rna"].temperature != 1
    figures = check_parity(opened, source.module, source.sample.landmarks, source.readout, seed=1)
    assert max(figure.relative_error for figure in figures) <= TOLERANCE


def altered(bundle: Path, folder: Path, file: str, weight: str, factor: float) -> Bundle:
    """Copy a bundle, multiply one weight in a graph's file, and sign for the result."""
    shutil.copytree(bundle, folder)
    model = onnx.load(folder / file)
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == weight)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), weight))
    onnx.save(model, folder / file)
    sign(folder)
    return Bundle.open(folder)


@pytest.mark.parametrize(
    ("file", "weight", "named"),
    [
        ("encoder.onnx", "encoder.rna_in.weight", "encoder 'z_mean'"),
        ("classifier.onnx", "classifier.bias", "classifier 'logits'"),
        ("proteins.onnx", "protein_decoder.background_logits.bias", "proteins 'foreground'"),
        ("readout.onnx", "network.panel_weights", "readout 'log_probabilities'"),
        ("encoder_rest.onnx", "encoder.z_mean.weight", "encoder_rest 'z_mean'"),
        ("readout_rest.onnx", "network.panel_weights", "readout_rest 'log_probabilities'"),
        ("readout_labels.onnx", "network.panel_weights", "readout_labels 'log_probabilities'"),
        ("encoder_panel.onnx", "encoder.z_mean.weight", "encoder_panel 'latent'"),
        ("readout_panel.onnx", "network.panel_weights", "readout_panel 'log_probabilities'"),
        ("encoder_rna.onnx", "encoder.z_mean.weight", "encoder_rna 'latent'"),
        ("readout_rna.onnx", "network.panel_weights", "readout_rna 'log_probabilities'"),
    ],
)
def test_an_altered_weight_is_found(
    bundle: Path, source: Source, tmp_path: Path, file: str, weight: str, named: str
) -> None:
    changed = altered(bundle, tmp_path / "altered", file, weight, factor=1.01)
    with pytest.raises(ParityError, match=rf"within a relative error of 0.0001; found .*{named}: 0\.") as failure:
        check_parity(changed, source.module, source.sample.landmarks, source.readout)
    assert isinstance(failure.value, ExportError)
    assert failure.value.exit_code == 2


@pytest.mark.parametrize("name", ["encoder", "readout"])
def test_an_altered_first_layer_is_found(bundle: Path, source: Source, name: str) -> None:
    opened = Bundle.open(bundle)
    layer = getattr(opened.first_layers, name)
    layers = replace(opened.first_layers, **{name: replace(layer, weight=layer.weight * np.float32(1.01))})
    with pytest.raises(ParityError, match=rf"found .*{name}_rest '"):
        check_parity(replace(opened, first_layers=layers), source.module, source.sample.landmarks, source.readout)


def test_a_result_that_is_not_finite_is_found(bundle: Path, source: Source, tmp_path: Path) -> None:
    changed = altered(bundle, tmp_path / "altered", "classifier.onnx", "classifier.bias", factor=np.inf)
    with pytest.raises(ParityError, match="classifier 'logits': inf"):
        check_parity(changed, source.module, source.sample.landmarks, source.readout)


def test_probe_cells_have_the_edges(source: Source) -> None:
    cells = probe_cells(source.sample.landmarks)
    drawn, edges = cells[slice(0, N_DRAWN)], cells[slice(N_DRAWN, None)]
    totals = np.asarray(edges.rna.sum(axis=1)).ravel()
    measured = edges.measured.sum(axis=1)
    n_genes, n_proteins = edges.rna.shape[1], edges.protein.shape[1]
    assert {(0, 0), (0, n_proteins), (1, 0), (1e6, 0), (1e6 * n_genes, n_proteins)} <= set(
        zip(totals, measured, strict=True)
    )
    assert ((measured > 0) & (measured < n_proteins)).sum() == 2
    assert not cells.protein[~cells.measured].any()
    landmarks = source.sample.landmarks.rna.toarray()
    own = drawn.rna.toarray()
    assert np.corrcoef(own.mean(axis=0), landmarks.mean(axis=0))[0, 1] > 0.9
    assert not any((row == landmarks).all(axis=1).any() for row in own)
