"""What an engine computes with: the device that was asked for, graphs that are what the manifest says."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tests.support.toy_bundle import sign, toy_cells

from totalanvi.serving.bundles import graphs
from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.engine import sessions
from totalanvi.serving.engine.engine import Engine
from totalanvi.serving.engine.widths import widths_of
from totalanvi.serving.errors import BundleError, QueryError, ServingError
from totalanvi.serving.mapped import MapOptions


def test_auto_says_once_why_it_computes_where_it_does(toy_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="totalanvi.serving"):
        engine = Engine(Bundle.open(toy_folder))
    assert engine.provider == "cpu"
    assert [message.partition(",")[0] for message in caplog.messages] == [
        f"Computing on the CPU with {engine.threads} threads"
    ]


def test_cuda_is_refused_where_there_is_none(toy_folder: Path) -> None:
    with pytest.raises(ServingError, match="expected a CUDA device to serve 'toy', found that"):
        Engine(Bundle.open(toy_folder), provider="cuda")


def test_silent_fall_back_is_noticed(
    toy_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    # A driver without the libraries that ONNX Runtime needs: the commonest broken installation.
    monkeypatch.setattr(sessions, "_count_cuda_devices", lambda: 1)
    with pytest.raises(ServingError, match="expected a CUDA device to serve 'toy', found that"):
        Engine(Bundle.open(toy_folder), provider="cuda")
    with caplog.at_level(logging.INFO, logger="totalanvi.serving"):
        assert Engine(Bundle.open(toy_folder)).provider == "cpu"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert capfd.readouterr().out == ""


def test_unknown_provider(toy_folder: Path) -> None:
    with pytest.raises(ServingError, match="expected one of auto, cpu, cuda, found 'tpu'"):
        Engine(Bundle.open(toy_folder), provider="tpu")  # type: ignore[arg-type]


def test_each_input_and_output_has_a_width(toy_folder: Path) -> None:
    signatures = [value for value in vars(graphs).values() if isinstance(value, graphs.GraphSignature)]
    assert len(signatures) > 10
    names = {name for signature in signatures for name in (*signature.inputs, *signature.outputs)}
    assert widths_of(Bundle.open(toy_folder)).keys() == names


Edit = Callable[[onnx.ModelProto], object]


@pytest.fixture
def spoiled(toy_folder: Path, tmp_path: Path) -> Callable[[str, Edit], Bundle]:
    """Change one graph in a copy of the bundle."""

    def spoil(name: str, edit: Edit) -> Bundle:
        copy = Path(shutil.copytree(toy_folder, tmp_path / "spoiled"))
        model = onnx.load(copy / name)
        edit(model)
        (copy / name).write_bytes(model.SerializeToString())
        return Bundle.open(sign(copy))

    return spoil


def rename_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = model.graph.node[-1].output[0] = "scores"


def swap_inputs(model: onnx.ModelProto) -> None:
    first, second = list(model.graph.input[:2])
    del model.graph.input[:2]
    model.graph.input.insert(0, second)
    model.graph.input.insert(1, first)


def fill_weight(value: float) -> Edit:
    def fill(model: onnx.ModelProto) -> None:
        weight = next(c for c in model.graph.initializer if c.name in ("weight", "decode_bias"))
        weight.CopyFrom(numpy_helper.from_array(np.full(weight.dims, value, dtype=np.float32), weight.name))

    return fill


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        ("classifier.onnx", rename_output, r"expected the outputs \['logits'\], found \['scores'\]"),
        (
            "encoder_rest.onnx",
            swap_inputs,
            r"expected the inputs \['from_rna', 'library', .* found \['library', 'from_rna'",
        ),
        ("encoder_rest.onnx", lambda model: model.graph.ClearField("node"), r"encoder_rest\.onnx cannot be loaded"),
    ],
)
def test_graph_with_another_interface(
    spoiled: Callable[[str, Edit], Bundle], name: str, edit: Edit, message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        Engine(spoiled(name, edit), provider="cpu")


def test_graph_of_another_size_than_the_manifest_says(toy_folder: Path) -> None:
    bundle = Bundle.open(toy_folder)
    other = bundle.manifest.model_copy(update={"labels": [*bundle.manifest.labels, "Monocyte"]})
    with pytest.raises(BundleError, match=r"expected 'logits' to be float32 with 5 columns.*found .* \['cells', 4\]"):
        Engine(replace(bundle, manifest=other), provider="cpu")


def test_graph_that_is_no_graph(toy_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(toy_folder, tmp_path / "copy"))
    (copy / "encoder_rest.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleError, match=r"encoder_rest\.onnx cannot be loaded by ONNX Runtime"):
        Engine(Bundle.open(sign(copy)), provider="cpu")


def test_graph_that_changed_since_the_bundle_was_opened(toy_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(toy_folder, tmp_path / "copy"))
    bundle = Bundle.open(copy)
    (copy / "proteins.onnx").write_bytes((copy / "encoder.onnx").read_bytes())
    with pytest.raises(BundleError, match=r"'proteins\.onnx' has been altered"):
        Engine(bundle, provider="cpu")


def test_weights_in_another_file_are_not_read(spoiled: Callable[[str, Edit], Bundle], tmp_path: Path) -> None:
    (tmp_path / "outside.bin").write_bytes(bytes(5 * 4 * 4))

    def point_outside(model: onnx.ModelProto) -> None:
        weight = model.graph.initializer[0]
        weight.ClearField("raw_data")
        weight.data_location = onnx.TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=str(tmp_path / "outside.bin"))

    with pytest.raises(BundleError, match=r"classifier\.onnx cannot be loaded"):
        Engine(spoiled("classifier.onnx", point_outside), provider="cpu")


@pytest.mark.parametrize(
    ("name", "value", "output"),
    [("classifier.onnx", np.nan, "logits"), ("classifier.onnx", np.inf, "logits"), ("proteins.onnx", 1e3, "protein")],
)
@pytest.mark.parametrize("n_cells", [5, 1_300])
def test_result_that_is_not_finite_is_an_error(
    spoiled: Callable[[str, Edit], Bundle], name: str, value: float, output: str, n_cells: int
) -> None:
    engine = Engine(spoiled(name, fill_weight(value)), provider="cpu", threads=2)
    cells, _ = toy_cells(n_cells)
    said = rf"found '{output}' not finite for {n_cells} of {n_cells} cells, first in row 0 with a total"
    with pytest.raises(QueryError, match=said):
        engine.run(cells, MapOptions())
    with pytest.raises(BundleError, match="cannot map an empty cell"):
        engine.warm()
