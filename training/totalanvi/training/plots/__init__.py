"""Pictures of a model and its results, as functions that draw on matplotlib axes and return them.

>>> from totalanvi.training.plots import plot_history
>>> axes = plot_history(model)  # doctest: +SKIP
>>> axes.figure.savefig("history.png")  # doctest: +SKIP

Every function takes the axes to draw on, ``ax``, or makes a figure of its own; none shows or closes anything. They need
matplotlib, which ``pip install 'totalanvi[plots]'`` brings.
"""

from __future__ import annotations

from totalanvi.training.plots.attributions import plot_attributions
from totalanvi.training.plots.confusion import plot_confusion
from totalanvi.training.plots.history import plot_history
from totalanvi.training.plots.protein import plot_protein

__all__ = ["plot_attributions", "plot_confusion", "plot_history", "plot_protein"]
