"""Axes to draw on, and the colours of every picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from totalanvi.training.checks import require_type

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["COLOURS", "DARK_GREY", "GREY", "axes_or_new", "without_box"]

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#882255")
"""Okabe and Ito's, which people with any common colour vision tell apart, but for yellow, which is faint on white."""
GREY, DARK_GREY = "#8C8C8C", "#595959"


def axes_or_new(ax: Axes | None, width: float = 6.0, height: float = 4.0) -> Axes:
    """Return ``ax``, or the axes of a new figure of ``width`` by ``height`` inches.

    Raises
    ------
    ArgumentError
        When ``ax`` are no axes.
    ImportError
        When matplotlib is not installed.
    """
    try:
        import matplotlib.pyplot as plt
        from matplotlib.axes import Axes
    except ImportError as error:
        raise ImportError(
            "Expected matplotlib to draw with, found that it is not installed; pip install 'totalanvi[plots]'."
        ) from error
    if ax is not None:
        require_type("ax", ax, Axes, "give those of a figure (fig.gca()), or leave it out")
        return ax
    # Through pyplot, so that notebooks show the figure by themselves.
    axes: Axes = plt.subplots(figsize=(width, height), layout="constrained")[1]
    return axes


def without_box(ax: Axes) -> None:
    """Leave only the lines that carry ticks."""
    ax.spines[["top", "right"]].set_visible(False)
