"""Inverse dispersions θ of the count models: one a feature, or one a feature and batch, or a feature and label."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from totalanvi.training.errors import ArgumentError
from totalanvi.training.network.config import Dispersion
from totalanvi.training.network.covariates import Covariates
from totalanvi.training.network.dimensions import Dimensions

__all__ = ["dispersion_parameter", "log_dispersion", "of_labels", "per_label"]


def per_label(kind: Dispersion) -> bool:
    """Whether a dispersion differs between labels."""
    return kind.endswith("-label")


def dispersion_parameter(
    kind: Dispersion, n_features: int, dims: Dimensions, draw: Callable[..., Tensor]
) -> nn.Parameter:
    """Draw the logarithms of θ, (features,), (features, batches) or (features, labels).

    Raises
    ------
    ArgumentError
        When θ shall differ between labels and the model knows none.
    """
    if per_label(kind):
        if not dims.n_labels:
            raise ArgumentError(
                f"Expected labels for the dispersion {kind!r}, found none; name a labels_key when setting up, or "
                "choose another dispersion."
            )
        return nn.Parameter(draw(n_features, dims.n_labels))
    return nn.Parameter(draw(n_features, dims.n_batches) if kind.endswith("-batch") else draw(n_features))


def log_dispersion(parameter: Tensor, kind: Dispersion, covariates: Covariates, labels: Tensor | None) -> Tensor:
    """Log θ of cells: (features,) where all share one, else (..., features).

    Parameters
    ----------
    parameter
        What `dispersion_parameter` made.
    kind
        Whether it differs between batches or labels.
    covariates
        Of the cells.
    labels
        Weight of each label for each cell, (..., labels): a known label's is 1. Over several labels, log θ is averaged.
    """
    if kind.endswith("-batch"):
        return covariates.batch @ parameter.t()
    if per_label(kind):
        assert labels is not None
        return labels @ parameter.t()
    return parameter


def of_labels(parameter: Tensor, known: Sequence[str], labels: Sequence[str]) -> Tensor:
    """Log θ of other labels, (features, labels), by name.

    Parameters
    ----------
    parameter
        Log θ of the known labels, (features, known labels).
    known
        Their names.
    labels
        The labels wanted. One that is not known gets the average, as a cell without label does.

    Examples
    --------
    >>> of_labels(torch.tensor([[1.0, 3.0]]), ["B", "T"], ["T", "NK"])
    tensor([[3., 2.]])
    """
    average = parameter.mean(dim=1)
    columns = dict(zip(known, parameter.unbind(dim=1), strict=True))
    return torch.stack([columns.get(label, average) for label in labels], dim=1)
