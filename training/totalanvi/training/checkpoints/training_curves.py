"""How training went, as curves on a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from totalanvi.pages.elements import Element, element
from totalanvi.pages.page import Section, figure, paragraph
from totalanvi.pages.plots import Axis, Curve, curves
from totalanvi.pages.tables import Cell, table

__all__ = ["History", "training_section"]

History = Mapping[str, Mapping[str, float]]
"""As a checkpoint keeps it: for each metric its value at each epoch."""

_CHARTS = (
    (
        ("elbo_train", "elbo_validation"),
        "loss per cell, nats",
        "Negative evidence lower bound (ELBO) of the cells, without weights. Where the held-out cells' rises while the "
        "training cells' falls, the model learns its cells by heart.",
    ),
    (
        ("reconstruction_loss_gene_validation", "reconstruction_loss_protein_validation"),
        "loss per cell, nats",
        "How badly genes and proteins of held-out cells are reconstructed.",
    ),
    (
        ("train_accuracy", "validation_accuracy"),
        "accuracy",
        "Share of labelled cells whose likeliest label is theirs, of the generative model while it trains.",
    ),
)
_NAMES = {
    "elbo_train": "training cells",
    "elbo_validation": "held-out cells",
    "reconstruction_loss_gene_validation": "genes",
    "reconstruction_loss_protein_validation": "proteins",
    "train_accuracy": "training cells",
    "validation_accuracy": "held-out cells",
}
_SETTLED = 0.1
"""Share of the epochs after which losses are shown in full: the first of them would hide all others."""
_MOST_ROWS = 50


def training_section(history: History) -> Section:
    """Draw what a history has of losses and accuracies.

    Parameters
    ----------
    history
        Of a checkpoint.
    """
    drawn = [
        _figure({name: history[name] for name in names if history.get(name)}, y_title, caption)
        for names, y_title, caption in _CHARTS
        if any(history.get(name) for name in names)
    ]
    nothing = paragraph("No epoch was recorded.")
    return Section("Training curves", [element("div", drawn, class_="pair") if drawn else nothing])


def _figure(metrics: History, y_title: str, caption: str) -> Element:
    epochs = {name: np.array([int(epoch) for epoch in values]) for name, values in metrics.items()}
    values = {name: np.array(list(of_metric.values()), dtype=np.float64) for name, of_metric in metrics.items()}
    last = max(int(at.max()) for at in epochs.values())
    y = Axis(y_title, 0, 1) if y_title == "accuracy" else _range(y_title, epochs, values, last)
    lines = [Curve(_NAMES[name], epochs[name], values[name]) for name in metrics]
    at = _shown_epochs(last)
    rows: list[list[Cell]] = [
        [str(epoch), *(_at(epochs[name], values[name], epoch) for name in metrics)] for epoch in at
    ]
    return figure(
        curves(
            lines, Axis("epoch", 0, max(last, 1)), y, f"{y_title} by epoch: {', '.join(_NAMES[n] for n in metrics)}"
        ),
        caption,
        table(["Epoch", *(_NAMES[name] for name in metrics)], rows),
    )


def _range(
    title: str, epochs: Mapping[str, npt.NDArray[np.int64]], values: Mapping[str, npt.NDArray[np.float64]], last: int
) -> Axis:
    settled = np.concatenate([values[name][epochs[name] >= _SETTLED * last] for name in values])
    settled = settled[np.isfinite(settled)]
    if not len(settled):
        return Axis(title, 0, 1)
    low, high = float(settled.min()), float(settled.max())
    room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return Axis(title, low - room, high + room)


def _shown_epochs(last: int) -> Iterable[int]:
    return sorted({*np.linspace(0, last, min(last + 1, _MOST_ROWS)).round().astype(int).tolist()})


def _at(epochs: npt.NDArray[np.int64], values: npt.NDArray[np.float64], epoch: int) -> float:
    found = values[epochs == epoch]
    return float(found[0]) if len(found) else float("nan")
