"""Fit a readout: regressions first, then the ensemble on top of them, for cells as queries bring them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from totalanvi.training.data import Cells
from totalanvi.training.readout.density import LabelDensity
from totalanvi.training.readout.members import train_members
from totalanvi.training.readout.network import ReadoutDimensions, ReadoutNetwork
from totalanvi.training.readout.normalised import log_normalised, thinned
from totalanvi.training.readout.panel_labels import fit_panel_labels
from totalanvi.training.readout.projection import Floats, Projection, Targets, cross_fitted_regressions
from totalanvi.training.readout.readout import Readout
from totalanvi.training.readout.scales import ProteinScales

__all__ = ["fit_readout"]

_MOST_CELLS = 50_000
_LEAST_OF_A_LABEL = 200
_DEPTHS = (0.7, 0.45, 0.25)
"""Shares of the counts that thinned views keep: queries of shallower runs."""

_MOST_MISSED = 3.0
"""In logs: what is further off says nothing of the usual."""


def fit_readout(cells: Cells, n_labels: int, n_batches: int, seed: int = 0) -> Readout:
    """Fit a readout to cells of the reference.

    Parameters
    ----------
    cells
        Those that trained, labelled or not. Of more than 50,000, a random part, with the first 200 of each label.
    n_labels, n_batches
        Of the model.
    seed
        The same cells and seed give the same readout, on the CPU.

    Returns
    -------
    Readout
        Without gradients, in evaluation mode, on the CPU.

    Examples
    --------
    >>> fit_readout(cells, n_labels=5, n_batches=1).network.dims.n_components  # doctest: +SKIP
    50
    """
    rng = np.random.default_rng(seed)
    cells = cells[_drawn(cells.label, rng)]
    scales = ProteinScales.learn(cells, n_batches)
    query_protein = scales.of_query(cells.protein)
    targets = Targets(scales.within_batch(cells), cells.measured, cells.label, n_labels)
    views = [log_normalised(cells.rna), *(log_normalised(thinned(cells.rna, depth, rng)) for depth in _DEPTHS)]
    projection = Projection.fit(views[0], targets, seed)
    regressions = cross_fitted_regressions(views, targets, seed)
    components = [projection.components(view) for view in views]
    network = _network(projection, scales, targets, regressions[0], query_protein, rng, seed)
    projected = [np.hstack(parts) for parts in zip(components, regressions, strict=True)]
    train_members(network, projected, query_protein, targets, seed)
    known = np.hstack([np.ones(components[0].shape, dtype=bool), cells.measured])
    density = LabelDensity.fit(np.hstack([components[0], query_protein]), known, cells.label, n_labels)
    smear = _smear(network, projected[0], cells, scales)
    return Readout(
        network,
        scales.batch_centre,
        scales.batch_spread,
        smear,
        density,
        projection.component_variance,
        np.array([projection.gene_noise], dtype=np.float32),
    )


def _drawn(label: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Positions of the cells to fit to, ascending."""
    order = rng.permutation(len(label))
    if len(order) <= _MOST_CELLS:
        return np.arange(len(label))
    kept = np.zeros(len(label), dtype=bool)
    kept[order[:_MOST_CELLS]] = True
    for code in np.unique(label[label >= 0]):
        kept[order[label[order] == code][:_LEAST_OF_A_LABEL]] = True
    return np.flatnonzero(kept)


def _network(
    projection: Projection,
    scales: ProteinScales,
    targets: Targets,
    regressions: Floats,
    query_protein: Floats,
    rng: np.random.Generator,
    seed: int,
) -> ReadoutNetwork:
    """Make the network with all that is fitted before it trains."""
    n_proteins = targets.protein.shape[1]
    predicted, logits = regressions[:, :n_proteins], regressions[:, n_proteins:]
    spread = np.float32(logits.std() or 1.0)
    weights, intercept = fit_panel_labels(
        query_protein, targets.measured, predicted, logits / spread, targets.label, rng
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = ReadoutNetwork(
            ReadoutDimensions(len(projection.centre), n_proteins, targets.n_labels, projection.n_components)
        )
    buffers = {
        "projection": projection.weights,
        "projection_centre": projection.centre,
        "projection_offset": projection.offset,
        "logit_spread": spread,
        "protein_centre": scales.centre,
        "protein_spread": scales.spread,
        "panel_weights": weights,
        "panel_offset": intercept,
    }
    network.load_state_dict(
        {name: torch.as_tensor(np.asarray(value, dtype=np.float32)) for name, value in buffers.items()}, strict=False
    )
    return network


@torch.no_grad()
def _smear(network: ReadoutNetwork, projected: Floats, cells: Cells, scales: ProteinScales) -> Floats:
    """Mean of exp(measured − predicted log count) of each protein, predicted from RNA alone, (proteins,)."""
    nothing = torch.zeros(len(cells), cells.protein.shape[1])
    standardised = network.answer(torch.from_numpy(projected), nothing, nothing)[1].numpy()
    predicted = standardised * scales.batch_spread[cells.batch] + scales.batch_centre[cells.batch]
    ratio = np.exp(np.clip(np.log1p(cells.protein) - predicted, -_MOST_MISSED, _MOST_MISSED))
    n_cells = np.maximum(cells.measured.sum(axis=0), 1)
    smear = np.where(cells.measured, ratio, 0).sum(axis=0) / n_cells
    return np.where(cells.measured.any(axis=0), smear, 1).astype(np.float32)
