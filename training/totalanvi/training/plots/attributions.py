"""Which genes and proteins speak for the predicted cell types."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from totalanvi.training.checks import as_whole, require_type
from totalanvi.training.errors import ArgumentError
from totalanvi.training.plots.canvas import COLOURS, axes_or_new, without_box

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_attributions"]

_COLUMNS = ("feature", "modality", "attribution_mean")


def plot_attributions(frame: pd.DataFrame, n: int = 20, ax: Axes | None = None) -> Axes:
    """Draw the features with the largest mean attributions as bars, the largest on top, one colour a modality.

    Parameters
    ----------
    frame
        Attributions as ``model.predict(ig_interpretability=True)`` returns them, a row a feature, with the columns
        ``"feature"``, ``"modality"`` and ``"attribution_mean"``.
    n
        Features to show; all where there are fewer.
    ax
        Axes to draw on; those of a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes
        The axes, a bar a feature.

    Raises
    ------
    ArgumentError
        For a frame without these columns or without rows, or an ``n`` below 1.
    ImportError
        When matplotlib is not installed.

    Examples
    --------
    >>> labels, attributions = model.predict(ig_interpretability=True)  # doctest: +SKIP
    >>> plot_attributions(attributions, n=10)  # doctest: +SKIP
    """
    n = as_whole("n", n, 1)
    require_type("frame", frame, pd.DataFrame, "give the frame that predict(ig_interpretability=True) returns")
    absent = [column for column in _COLUMNS if column not in frame]
    if absent:
        raise ArgumentError(
            f"Expected attributions with the columns {', '.join(_COLUMNS)}, found none of the name "
            f"{', '.join(absent)}; give the frame that predict(ig_interpretability=True) returns."
        )
    if not pd.api.types.is_numeric_dtype(frame["attribution_mean"]):
        found = frame["attribution_mean"].dtype
        raise ArgumentError(f"Expected numbers in 'attribution_mean', found values of type {found}; convert them.")
    if frame.empty:
        raise ArgumentError("Expected attributions of features, found no row; look at what filtered them.")
    top = frame.sort_values("attribution_mean", ascending=False, kind="stable").head(n)
    # Modalities keep their colours whichever of them reach the top.
    colour = {modality: COLOURS[i % len(COLOURS)] for i, modality in enumerate(sorted(frame["modality"].unique()))}

    ax = axes_or_new(ax, height=max(2.0, 1.0 + 0.24 * len(top)))
    place = np.arange(len(top))
    for modality in sorted(top["modality"].unique()):
        of_modality = (top["modality"] == modality).to_numpy()
        mean = top["attribution_mean"].to_numpy()[of_modality]
        ax.barh(place[of_modality], mean, height=0.7, color=colour[modality], label=str(modality))
    ax.set_yticks(place, top["feature"].astype(str))
    ax.set_ylim(len(top) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.axvline(0, color="0.3", linewidth=0.8)
    ax.set_xlabel("Mean attribution to the predicted label (logits)")
    # Above the axes, where no bar reaches.
    ax.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(colour))
    without_box(ax)
    return ax
