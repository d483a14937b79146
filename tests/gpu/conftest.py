"""Tests that need a CUDA device, and skip by name where there is none."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _gpu() -> None:
    """Need a device that torch sees; ``make test-gpu`` is what shows it to the tests."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here, or not shown to tests (make test-gpu)")
