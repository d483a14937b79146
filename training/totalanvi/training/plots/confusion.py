"""Which cell types are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from totalanvi.training.checks import require_flags
from totalanvi.training.errors import ArgumentError
from totalanvi.training.plots.canvas import axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_confusion"]

_MOST_WRITTEN = 15
"""With more labels than this, numbers do not fit into the squares, and a colour bar takes their place."""

_Labels: TypeAlias = Sequence[str] | npt.NDArray[Any] | pd.Series


def plot_confusion(true: _Labels, predicted: _Labels, normalize: bool = True, ax: Axes | None = None) -> Axes:
    """Draw a confusion matrix: a row for each true cell type, a column for each predicted one, in alphabetical order.

    Parameters
    ----------
    true, predicted
        Labels of the same cells in the same order, (cells,).
    normalize
        Show shares of the cells of each true type, so that rows sum to 1; otherwise numbers of cells.
    ax
        Axes to draw on; those of a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes
        The axes; their one image holds the matrix, (labels, labels). A row is masked where no cell has the type.

    Raises
    ------
    ArgumentError
        For labels of another number of cells, missing labels, or no cell.
    ImportError
        When matplotlib is not installed.

    Examples
    --------
    >>> held_out = model.validation_indices  # doctest: +SKIP
    >>> truth = adata.obs["cell_type"].iloc[held_out]  # doctest: +SKIP
    >>> plot_confusion(truth, model.predict(indices=held_out))  # doctest: +SKIP
    """
    require_flags(normalize=normalize)
    rows, columns = _as_text(true, "true"), _as_text(predicted, "predicted")
    if len(rows) != len(columns):
        raise ArgumentError(
            f"Expected true and predicted labels of the same cells, found {len(rows)} and {len(columns)}; choose the "
            "same cells for both."
        )
    if len(rows) == 0:
        raise ArgumentError("Expected labels of cells, found none; look at what chose them.")
    labels, codes = np.unique(np.concatenate((rows, columns)), return_inverse=True)
    counts = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(counts, (codes[: len(rows)], codes[len(rows) :]), 1)
    per_type = counts.sum(axis=1, keepdims=True)
    shown = np.ma.masked_array(counts / np.maximum(per_type, 1) if normalize else counts)
    shown[per_type.ravel() == 0] = np.ma.masked

    side = max(4.0, 2.0 + 0.45 * min(len(labels), 40))
    ax = axes_or_new(ax, side + 0.6, side)
    image = ax.imshow(shown, cmap="Blues", vmin=0, vmax=1 if normalize else None)
    ax.set_facecolor("0.93")
    ax.set_xticks(range(len(labels)), labels, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(labels)), labels)
    ax.set_xlabel("Predicted")
    ax.set_ylabel("True")
    ax.tick_params(length=0)
    if len(labels) <= _MOST_WRITTEN:
        _write_numbers(ax, shown, "{:.2f}" if normalize else "{:,}")
    else:
        ax.figure.colorbar(image, ax=ax, shrink=0.8, label="Share of the true type" if normalize else "Cells")
    return ax


def _as_text(labels: _Labels, which: str) -> npt.NDArray[np.str_]:
    values = np.asarray(labels, dtype=object)
    if values.ndim != 1:
        raise ArgumentError(
            f"{which}: expected a list of labels, one a cell, found an array of shape {values.shape}; give such a list."
        )
    series = pd.Series(values)
    missing = int(series.isna().sum())
    if missing:
        raise ArgumentError(
            f"{which}: expected a label for every cell, found {missing} cells without; leave these cells out."
        )
    return np.asarray(series.astype(str), dtype=str)


def _write_numbers(ax: Axes, shown: np.ma.MaskedArray[Any, Any], form: str) -> None:
    """Write every number that is not zero: the zeros would hide the mistakes."""
    dark = shown.max() / 2
    for row, column in zip(*np.nonzero(shown.filled(0)), strict=True):
        value = shown[row, column]
        colour = "white" if value > dark else "black"
        ax.text(column, row, form.format(value), ha="center", va="center", fontsize=8, color=colour)
