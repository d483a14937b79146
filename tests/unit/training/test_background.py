"""The protein background starts where single cells put it."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.reference_cells import draw_cells

from totalanvi.training.data import Cells
from totalanvi.training.network.background import BackgroundPrior, empirical_background_prior


def two_panels(n_cells: int = 40, n_proteins: int = 12) -> Cells:
    """Two panels with backgrounds of about 5 and 50 counts, and three foreground proteins a cell."""
    rng = np.random.default_rng(0)
    cells = draw_cells(n_cells=n_cells, n_proteins=n_proteins, without_proteins=0.0)
    panel = np.arange(n_cells) % 2
    mean = np.where(panel == 0, 5.0, 50.0)[:, None] * np.ones(n_proteins)
    mean[:, :3] *= 40
    protein = rng.poisson(mean).astype(np.float32)
    return Cells(
        **{**cells.__dict__, "panel": panel, "protein": protein, "measured": np.ones((n_cells, n_proteins), bool)}
    )


def test_each_panel_starts_at_its_own_background() -> None:
    prior = empirical_background_prior(two_panels(), n_panels=2)
    assert prior.mean.shape == prior.scale.shape == (12, 2)
    assert np.allclose(prior.mean[:, 0], np.log1p(5.0), atol=0.3)
    assert np.allclose(prior.mean[:, 1], np.log1p(50.0), atol=0.3)
    assert (prior.scale > 0).all()
    assert (prior.scale < 0.5).all()


def test_the_seed_chooses_the_cells() -> None:
    """Of more than a hundred cells of a panel, a hundred are enough."""
    cells = two_panels(n_cells=110)
    one_panel = Cells(**{**cells.__dict__, "panel": np.zeros_like(cells.panel)})
    one, again, other = (empirical_background_prior(one_panel, 1, seed).mean for seed in (0, 0, 1))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_only_measured_proteins_count() -> None:
    cells = two_panels()
    measured = cells.measured.copy()
    measured[:, -4:] = False
    fewer = Cells(**{**cells.__dict__, "measured": measured})
    strange = Cells(**{**fewer.__dict__, "protein": np.where(measured, cells.protein, 10_000).astype(np.float32)})
    assert np.array_equal(empirical_background_prior(fewer, 2).mean, empirical_background_prior(strange, 2).mean)


@pytest.mark.parametrize("case", ["few proteins", "no cells", "all alike"])
def test_a_panel_that_tells_nothing_keeps_the_wide_prior(case: str) -> None:
    cells = two_panels()
    measured, protein, panel = cells.measured.copy(), cells.protein.copy(), cells.panel.copy()
    if case == "few proteins":
        measured[panel == 1, 4:] = False
    elif case == "no cells":
        panel[:] = 0
    else:
        protein[panel == 1] = 7.0
    changed = Cells(**{**cells.__dict__, "measured": measured, "protein": protein, "panel": panel})
    prior, wide = empirical_background_prior(changed, n_panels=2), BackgroundPrior.wide(12, 2)
    assert np.array_equal(prior.mean[:, 1], wide.mean[:, 1])
    assert np.array_equal(prior.scale[:, 1], wide.scale[:, 1])
    assert (prior.mean[:, 0] != wide.mean[:, 0]).all()
