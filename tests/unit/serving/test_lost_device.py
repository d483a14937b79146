"""A device that fails while it computes: simulated, by a graph that ONNX Runtime fails at."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from tests.support.server import app_in_thread
from tests.support.toy_bundle import TOY, toy_cells

from totalanvi.serving.endpoint.app import create_app
from totalanvi.serving.endpoint.catalogue import Catalogue
from totalanvi.serving.endpoint.references import References
from totalanvi.serving.endpoint.routes import Endpoint
from totalanvi.serving.errors import DeviceError
from totalanvi.serving.mapped import MapOptions
from totalanvi.serving.mapping.local import LocalReference
from totalanvi.serving.wire.limits import Limits

CELL = {"cells": [{"genes": {TOY.genes[0]: 3}}]}


def failing_session(bundle: Path) -> onnxruntime.InferenceSession:
    """Return the classifier with a last step that no number of cells passes."""
    model = onnx.load(bundle / "classifier.onnx")
    model.graph.node[-1].output[0] = "product"
    model.graph.initializer.append(numpy_helper.from_array(np.array([99_991, len(TOY.labels)]), "shape"))
    model.graph.node.append(helper.make_node("Reshape", ["product", "shape"], ["logits"]))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.fixture
def doomed(toy_folder: Path, tmp_path: Path) -> LocalReference:
    return LocalReference(shutil.copytree(toy_folder, tmp_path / "toy"), provider="cpu")


def lose_device(reference: LocalReference, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = reference.engine._computation._graphs
    monkeypatch.setattr(graphs, "_device", "cuda")
    monkeypatch.setitem(graphs._sessions, "classifier.onnx", failing_session(reference.bundle.path))


def test_a_device_that_fails_is_named(doomed: LocalReference, monkeypatch: pytest.MonkeyPatch) -> None:
    lose_device(doomed, monkeypatch)
    with pytest.raises(
        DeviceError, match=r"^Expected the device 'cuda' to compute classifier.onnx, found that it fail"
    ):
        doomed.score(toy_cells(3)[0], MapOptions())


def test_a_graph_that_fails_elsewhere_is_no_device(doomed: LocalReference, monkeypatch: pytest.MonkeyPatch) -> None:
    lose_device(doomed, monkeypatch)
    monkeypatch.setattr(doomed.engine._computation._graphs, "_device", "cpu")
    with pytest.raises(Exception, match="for output: logits") as failure:
        doomed.score(toy_cells(3)[0], MapOptions())
    assert not isinstance(failure.value, DeviceError)


def test_an_endpoint_whose_device_fails_makes_room_for_another(
    doomed: LocalReference, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[str] = []
    references = References(Catalogue([doomed.bundle.path]), lambda _: doomed)
    endpoint = Endpoint(Limits(), references, end=lambda: ends.append("ended"))
    endpoint.references.look()

    def ask(web: httpx.Client) -> tuple[int, str]:
        answer = web.post("/v1/predict", json=CELL)
        return answer.status_code, answer.json().get("error", {}).get("type", "")

    with app_in_thread(create_app(endpoint)) as web:
        assert ask(web) == (200, "")
        assert endpoint.ready
        lose_device(doomed, monkeypatch)
        assert ask(web) == (503, "DeviceError")
        assert not endpoint.ready
        assert ask(web) == (503, "NotReadyError")
    assert ends == ["ended"]
