"""How training went, epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from totalanvi.training.checks import as_names, require_type
from totalanvi.training.errors import ArgumentError
from totalanvi.training.models.trainable import TrainableModel
from totalanvi.training.plots.canvas import COLOURS, axes_or_new, without_box

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_history"]

_SPLITS = {"train": "-", "validation": "--"}
"""How the line of each split is drawn."""
_ABBREVIATIONS = {"elbo", "f1", "kl", "lr"}


class _Curve(NamedTuple):
    key: str
    label: str
    style: str


def plot_history(
    model: TrainableModel | Mapping[str, pd.DataFrame],
    metrics: str | Sequence[str] = "elbo",
    ax: Axes | None = None,
) -> Axes:
    """Draw metrics over epochs, one colour a metric: training solid, validation dashed.

    Parameters
    ----------
    model
        A trained model, or its ``history``: frames of one column, indexed by epoch.
    metrics
        Names of metrics, without their split for both splits (``"elbo"``, ``"reconstruction_loss"``, ``"accuracy"``),
        or as the history has them for one line (``"elbo_validation"``, ``"kl_weight"``). Losses are per cell, in nats;
        what the history calls ELBO is the negative one, so that lower is better.
    ax
        Axes to draw on; those of a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes
        The axes, a line a metric and split.

    Raises
    ------
    ArgumentError
        For a history without epochs, a metric that it does not have, or no metric.
    ImportError
        When matplotlib is not installed.

    Examples
    --------
    >>> plot_history(model, ["reconstruction_loss", "classification_loss"])  # doctest: +SKIP
    """
    require_type("model", model, (TrainableModel, Mapping), "give a trained model, or its history")
    history = model if isinstance(model, Mapping) else model.history
    for metric, frame in history.items():
        require_type(f"history[{metric!r}]", frame, pd.DataFrame, "give the history as the model has it")
    if not history:
        raise ArgumentError("Expected the history of a trained model, found an empty one; call its train() first.")
    wanted = [metrics] if isinstance(metrics, str) else list(dict.fromkeys(as_names("metrics", metrics, "metrics")))
    if not wanted:
        raise ArgumentError("metrics: expected names of metrics, found none; name one, 'elbo' for example.")
    curves = {metric: list(_curves(metric, history)) for metric in wanted}
    ax = axes_or_new(ax)
    from matplotlib.ticker import MaxNLocator

    for i, of_metric in enumerate(curves.values()):
        for key, label, style in of_metric:
            epochs, values = history[key].index.to_numpy(), history[key].to_numpy().ravel()
            # The line through one point is not seen.
            marker = "o" if len(epochs) == 1 else ""
            ax.plot(epochs, values, style, color=COLOURS[i % len(COLOURS)], marker=marker, label=label)
    ax.set_xlabel("Epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_ylabel(_words(wanted[0]) if len(wanted) == 1 else "Value")
    ax.legend(frameon=False)
    without_box(ax)
    return ax


def _curves(metric: str, history: Mapping[str, pd.DataFrame]) -> Iterator[_Curve]:
    """Yield what the history has of a metric; the split stands before some metrics' names and after others'."""
    if metric in history:
        yield _Curve(metric, _words(metric), "-")
        return
    split_keys = {split: (f"{metric}_{split}", f"{split}_{metric}") for split in _SPLITS}
    found = [(split, key) for split, keys in split_keys.items() for key in keys if key in history]
    if not found:
        raise ArgumentError(
            f"metrics: expected metrics of the history ({', '.join(sorted(history))}), found {metric!r}; choose out of "
            "these, with or without their split."
        )
    for split, key in found:
        yield _Curve(key, f"{_words(metric)}, {split}", _SPLITS[split])


def _words(metric: str) -> str:
    text = " ".join(word.upper() if word in _ABBREVIATIONS else word for word in metric.split("_"))
    return text[0].upper() + text[1:]
