"""First layers in files: weights that 16 bits hold are stored as such, and all are float32 once they are read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.first_layer import EncoderFirst
from totalanvi.serving.errors import BundleError

TORCH = {"uint16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


@pytest.fixture(scope="module")
def toy(toy_folder: Path) -> Bundle:
    return Bundle.open(toy_folder)


@pytest.mark.parametrize("dtype", TORCH)
def test_weights_come_back_to_a_bit(toy: Bundle, tmp_path: Path, dtype: str) -> None:
    weight = np.random.default_rng(0).standard_normal(toy.first_layers.encoder.weight.shape).astype(np.float32)
    weight[0, :3] = 0.0, -0.0, 2.0**-14
    layer = replace(toy.first_layers.encoder, weight=torch.from_numpy(weight).to(TORCH[dtype]).float().numpy())
    layer.save(tmp_path, toy.manifest)
    content = (tmp_path / layer.FILE).read_bytes()
    assert load(content)["weight"].dtype == dtype
    again = EncoderFirst.parse(content, toy.manifest, source=tmp_path)
    for name in ("weight", "centre", "offset"):
        found, expected = getattr(again, name), getattr(layer, name)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


def test_other_numbers_are_refused(toy: Bundle, tmp_path: Path) -> None:
    layer = toy.first_layers.encoder
    arrays = {"weight": layer.weight, "centre": layer.centre, "offset": layer.offset}
    infinite = np.full(layer.weight.shape, 0x7F80, np.uint16)
    for weight, told in (
        (layer.weight.astype(np.int16), "weight: expected float32 of shape .*, found int16"),
        (np.full(layer.weight.shape, np.inf, np.float16), "weight: expected finite values"),
        (infinite, "weight: expected finite values"),
        (infinite[1:], r"weight: expected float32 of shape .*, found float32 of shape"),
    ):
        with pytest.raises(BundleError, match=told):
            EncoderFirst.parse(save(arrays | {"weight": weight}), toy.manifest, source=tmp_path)
