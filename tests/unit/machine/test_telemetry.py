"""Nothing is kept of a machine, or told about it, unless whoever runs the product asks for that."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from totalanvi.machine.telemetry import tell_nobody

USES_ONNX_RUNTIME = """
import onnx
from onnx import TensorProto, helper
import onnxruntime
values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("x", "y")]
graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "same", values[:1], values[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
"""


@pytest.mark.parametrize("package", ["serving", "export"])
def test_a_home_stays_empty(tmp_path: Path, package: str) -> None:
    kept = {
        name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    }
    program = f"import totalanvi.{package}\n{USES_ONNX_RUNTIME}"
    done = subprocess.run(
        [sys.executable, "-c", program], env=kept | {"HOME": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("*")) == []


def test_who_asks_for_it_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    tell_nobody()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"
