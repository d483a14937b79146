"""Where the prior of the protein background begins: a two-component mixture fitted to single cells.

Within one cell most proteins are background, a few are foreground. The lower component of a Gaussian mixture over the
log counts of one cell's proteins is therefore a first guess of that cell's background; its average over some cells of a
panel starts the prior of that panel, which is then learned.

References
----------
Gayoso, Steier et al., Nature Methods 18 (2021), Methods, "Protein background prior".
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from totalanvi.training.data import Cells

__all__ = ["BackgroundPrior", "empirical_background_prior"]

_CELLS_PER_PANEL = 100
_FEWEST_PROTEINS = 5


@dataclass(frozen=True)
class BackgroundPrior:
    """Mean and standard deviation of the log background, each (proteins, panels)."""

    mean: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]

    @classmethod
    def wide(cls, n_proteins: int, n_panels: int) -> BackgroundPrior:
        """A prior that says little: about e³ counts, give or take a factor of e."""
        shape = (n_proteins, n_panels)
        return cls(mean=np.full(shape, 3.0, np.float32), scale=np.ones(shape, np.float32))


def empirical_background_prior(cells: Cells, n_panels: int, seed: int = 0) -> BackgroundPrior:
    """Fit the starting point of the background prior, panel by panel.

    Parameters
    ----------
    cells
        The reference.
    n_panels
        Number of panels.
    seed
        Chooses the cells of each panel.

    Returns
    -------
    BackgroundPrior
        One value per panel, repeated over proteins. Panels with fewer than five measured proteins, too few for a
        mixture, keep the wide prior.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    prior = BackgroundPrior.wide(cells.protein.shape[1], n_panels)
    rng = np.random.default_rng(seed)
    for panel in range(n_panels):
        members = np.flatnonzero((cells.panel == panel) & (cells.measured.sum(axis=1) >= _FEWEST_PROTEINS))
        if len(members) == 0:
            continue
        chosen = rng.choice(members, size=min(_CELLS_PER_PANEL, len(members)), replace=False)
        means, variances = [], []
        for cell in chosen:
            log_counts = np.log1p(cells.protein[cell, cells.measured[cell]])[:, None]
            if np.ptp(log_counts) == 0:
                continue  # one value in the whole cell: nothing to tell apart
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                mixture = GaussianMixture(n_components=2, random_state=seed).fit(log_counts)
            low = int(np.argmin(mixture.means_.ravel()))
            means.append(mixture.means_.ravel()[low])
            variances.append(mixture.covariances_.ravel()[low])
        if means:
            prior.mean[:, panel] = np.mean(means)
            prior.scale[:, panel] = np.sqrt(np.sum(variances)) / len(variances)
    return prior
