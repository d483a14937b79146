"""What a bundle keeps of a readout besides its graph."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import IsotonicRegression

from totalanvi.export.reference_cells import aligned
from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.readout_arrays import ReadoutArrays
from totalanvi.serving.engine.engine import Engine
from totalanvi.serving.engine.readout import N_MEASURES
from totalanvi.serving.engine.scores import Imputed
from totalanvi.serving.mapped import MapOptions
from totalanvi.training.data import Cells
from totalanvi.training.readout.readout import Readout

__all__ = ["readout_arrays", "with_novelty_scale", "with_shares"]

_N_KNOTS = 16

_LEAST_SPREAD = 1e-3
"""Of a measure among cells that are all alike, or of a single one."""


def readout_arrays(readout: Readout) -> ReadoutArrays:
    """Name a readout's arrays as the bundle does.

    Parameters
    ----------
    readout
        As it was fitted.

    Returns
    -------
    ReadoutArrays
        In which nothing is background yet, and strangeness has no scale; see `with_shares`, `with_novelty_scale`.
    """
    density, network = readout.density, readout.network
    n_proteins = network.dims.n_proteins
    return ReadoutArrays(
        protein_centre=network.protein_centre.numpy(),
        protein_spread=network.protein_spread.numpy(),
        protein_smear=readout.protein_smear,
        share_knots=np.zeros((n_proteins, 1), np.float32),
        share=np.ones((n_proteins, 1), np.float32),
        batch_centre=readout.batch_centre,
        batch_spread=readout.batch_spread,
        density_mean=density.mean,
        density_covariance=density.covariance,
        density_shared=density.shared_covariance,
        component_variance=readout.component_variance,
        gene_noise=readout.gene_noise,
        novelty_scale=np.tile(np.array([0, 1], dtype=np.float32), (N_MEASURES, 1)),
    )


def with_shares(bundle: Bundle, cells: Cells) -> Bundle:
    """Let the decoder say which share of a count is no background, as a function of the expected count.

    The decoder's share of a cell varies with more than the count, and not always for the better. Read as a rising
    function of what the readout expects, it takes background away and leaves the order of cells as it is.

    Parameters
    ----------
    bundle
        With its graphs in place; without a readout, it is returned as it is.
    cells
        Of the reference, imputed from RNA alone.
    """
    if bundle.readout is None:
        return bundle
    decoded, read = (_imputed(each, cells) for each in (replace(bundle, readout=None), bundle))
    shares = np.clip(decoded.denoised / np.maximum(decoded.expected, np.float32(1e-12)), 0, 1)
    logs = np.log1p(read.expected)
    # Evenly spaced: a curve that jumps would turn rounding of a count into another share.
    lowest, highest = np.quantile(logs, (0.001, 0.999), axis=0)
    knots = np.linspace(lowest, highest, _N_KNOTS).T
    curves = [
        IsotonicRegression(out_of_bounds="clip").fit(log, share).predict(at)
        for log, share, at in zip(logs.T, shares.T, knots, strict=True)
    ]
    arrays = replace(bundle.readout, share_knots=_rising(knots), share=_rising(np.clip(curves, 0, 1)))
    return replace(bundle, readout=arrays)


def _rising(curves: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Return what rises along its rows but for rounding, which newer libraries leave between two equal numbers.

    Examples
    --------
    >>> _rising(np.array([[0.0, 0.5, 0.4999999, 1.0]])).tolist()
    [[0.0, 0.5, 0.5, 1.0]]
    """
    return np.asarray(np.maximum.accumulate(curves, axis=1), dtype=np.float32)


def with_novelty_scale(bundle: Bundle, cells: Cells) -> Bundle:
    """Let cells of the reference say what strangeness is usual.

    Parameters
    ----------
    bundle
        With its graphs and its landmarks in place; without a readout, it is returned as it is.
    cells
        Of the reference, scored from RNA alone; at best not among the landmarks.
    """
    if bundle.readout is None or not len(cells):
        return bundle
    query = aligned(cells, with_proteins=False)
    strangeness = Engine(bundle, provider="cpu").score(query, MapOptions(impute=False)).strangeness
    spread = np.maximum(strangeness.std(axis=0), _LEAST_SPREAD)
    scale = np.stack([strangeness.mean(axis=0), spread], axis=1).astype(np.float32)
    return replace(bundle, readout=replace(bundle.readout, novelty_scale=scale))


def _imputed(bundle: Bundle, cells: Cells) -> Imputed:
    imputed = Engine(bundle, provider="cpu").score(aligned(cells, with_proteins=False), MapOptions()).imputed
    assert imputed is not None
    return imputed
