"""What a protein's counts are made of: background, and foreground where cells express it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from totalanvi.training.base import BaseModel
from totalanvi.training.checks import require_type
from totalanvi.training.errors import ArgumentError, listed
from totalanvi.training.plots.canvas import COLOURS, DARK_GREY, GREY, axes_or_new, without_box
from totalanvi.training.registration.setup_note import Data
from totalanvi.training.results.arguments import DEFAULT_BATCH_SIZE
from totalanvi.training.results.posterior import posteriors

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_protein"]

_BINS = 40
_TICKS = np.array([0, 1, 3, 10, 30, 100, 300, 1_000, 10_000, 100_000, 1_000_000])
_Floats = npt.NDArray[np.float64]


class _Levels(NamedTuple):
    """A protein in the cells that measured it, each (cells,)."""

    counts: _Floats
    foreground_probability: _Floats
    """1 − π."""
    background: _Floats
    """Expected count of background, e E[β]."""
    foreground: _Floats
    """Expected count of foreground, e α E[β]."""


def plot_protein(
    model: BaseModel,
    protein: str,
    adata: Data | None = None,
    indices: Sequence[int] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the counts of a protein, split into background and foreground as the model sees them.

    A stacked histogram: every cell counts as foreground with its foreground probability 1 − π, and as background with
    π. Dashed lines show the count that the model expects of each, e E[β] and e α E[β], averaged over cells on the axis'
    scale with the same weights; e is how efficiently the cell's batch captures the protein.

    Parameters
    ----------
    model
        A trained model.
    protein
        Name of a protein.
    adata
        Cells with the reference's features and columns; the reference itself by default.
    indices
        Positions of the cells wanted; all by default.
    ax
        Axes to draw on; those of a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes
        The axes. Their horizontal scale is log(1 + count), with counts at the ticks; the bars' area is 1.

    Raises
    ------
    ArgumentError
        For a protein that the model does not know, or that none of the cells measured.
    RegistrationError, CountsError
        As `TOTALVI.get_latent_representation`.
    ImportError
        When matplotlib is not installed.

    Examples
    --------
    >>> plot_protein(model, "CD19")  # doctest: +SKIP

    References
    ----------
    Gayoso, Steier et al.: Joint probabilistic modeling of single-cell multi-omic data with totalVI. Nature Methods 18
    (2021), methods: "The totalVI model".
    """
    require_type("model", model, BaseModel, "give a trained model")
    if protein not in model.registry.proteins:
        raise ArgumentError(
            f"protein: expected one of the model's ({listed(model.registry.proteins)}), found {protein!r}; choose "
            "one of them."
        )
    levels = _levels(model, protein, adata, indices)
    ax = axes_or_new(ax)
    edges = _edges(levels.counts.max())
    bottom = np.zeros(len(edges) - 1)
    share = levels.foreground_probability
    # Each level's name stands on the far side of its line, so that two close levels can be read.
    for name, colour, line_colour, side, weight, expected in (
        ("Background", GREY, DARK_GREY, "right", 1.0 - share, levels.background),
        ("Foreground", COLOURS[0], COLOURS[0], "left", share, levels.foreground),
    ):
        height = np.histogram(np.log1p(levels.counts), edges, weights=weight)[0] / len(share) / np.diff(edges)
        ax.bar(edges[:-1], height, np.diff(edges), bottom, align="edge", color=colour, label=name)
        bottom += height
        if weight.sum() > 0:
            level = float(np.average(np.log1p(expected), weights=weight))
            ax.axvline(level, color=line_colour, linestyle="--", linewidth=1.2)
            text = f"{name},\nexpected {np.expm1(level):,.0f}"
            top = ax.get_xaxis_transform()
            ax.text(level, 1.01, text, color=line_colour, fontsize=9, ha=side, va="bottom", transform=top)
    ticks = _TICKS[np.log1p(_TICKS) <= edges[-1]]
    ax.set_xticks(np.log1p(ticks), [f"{tick:,}" for tick in ticks])
    ax.set_xlabel("Count, on the scale of log(1 + count)")
    ax.set_ylabel("Density of cells")
    ax.set_title(protein, pad=34)
    without_box(ax)
    return ax


@torch.inference_mode()
def _levels(model: BaseModel, protein: str, adata: Data | None, indices: Sequence[int] | None) -> _Levels:
    """Decode one protein at the posterior mean of z."""
    column = model.registry.proteins.index(protein)
    cells, _ = model._cells_of(adata, indices)
    cells = cells[np.flatnonzero(cells.measured[:, column])]
    if len(cells) == 0:
        raise ArgumentError(f"Expected cells that measured {protein}, found none; choose others.")
    decoded = []
    for posterior in posteriors(model.module, cells, DEFAULT_BATCH_SIZE):
        parameters = model.module.decode_proteins(model.module.transform(posterior.z.mean), posterior.covariates)
        log_background = parameters.log_background + model.module.log_efficiency(posterior.covariates.batch)
        of_batch = (
            parameters.foreground_probability,
            log_background.exp(),
            (log_background + parameters.log_foreground_ratio).exp(),
        )
        decoded.append(np.stack([values[:, column].double().cpu().numpy() for values in of_batch]))
    return _Levels(cells.protein[:, column].astype(np.float64), *np.concatenate(decoded, axis=1))


def _edges(most: float) -> _Floats:
    """Edges of the bins on the scale of log(1 + count), halfway between counts and evenly spaced but for small counts.

    Evenly spaced throughout, bins between two small counts would stay empty and look like gaps in the data.
    """
    counts = np.unique(np.floor(np.expm1(np.linspace(0.0, np.log1p(most), _BINS + 1)[:-1])))
    return np.log1p(np.append(counts, most + 1.0) - 0.5)
