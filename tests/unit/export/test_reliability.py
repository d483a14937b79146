"""How well RNA predicts each protein."""

from __future__ import annotations

import numpy as np
import pytest

from totalanvi.export.reliability import judge_reliability
from totalanvi.serving.engine.scores import Imputed


def test_figures_of_each_protein() -> None:
    rng = np.random.default_rng(0)
    level = rng.lognormal(3, 1, size=200)
    noise = rng.lognormal(3, 1, size=200)
    counts = np.stack([level, noise, np.zeros(200), level, level], axis=1)
    expected = np.stack([level, level, level, np.ones(200), level], axis=1)
    denoised = np.stack([level**2, level, level, np.ones(200), level], axis=1)
    measured = np.ones(counts.shape, dtype=bool)
    measured[19:, 4] = False
    found = judge_reliability(counts, measured, Imputed(denoised, expected, np.ones_like(expected)))  # type: ignore[arg-type]
    predicted, unpredicted, constant, unvaried, few = found
    assert (predicted.pearson, predicted.spearman, predicted.n_cells) == (1, 1, 200)
    assert unpredicted.pearson == pytest.approx(np.corrcoef(np.log1p(noise), np.log1p(level))[0, 1], abs=1e-6)
    assert constant.pearson is None
    assert unvaried.pearson == 0
    assert (few.n_cells, few.pearson, few.spearman) == (19, None, None)
    assert [each.reliable for each in found] == [True, False, True, False, True]
