"""Fully connected stacks that see the covariates in every layer."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["FullyConnected", "NormKind"]

NormKind = Literal["batch", "layer", "none"]


def _norm(kind: NormKind, n_features: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm1d(n_features, momentum=0.01, eps=0.001)
    if kind == "layer":
        return nn.LayerNorm(n_features)
    return nn.Identity()


class FullyConnected(nn.Module):
    """Linear → norm → ReLU → dropout, as many times as there are layers.

    Parameters
    ----------
    n_in, n_hidden
        Features in, and features out of every layer.
    n_covariates
        Width of the covariates that are appended to the input of each layer.
    n_layers
        Number of layers.
    dropout
        Dropout rate.
    norm
        Normalisation between the linear map and the activation. Layer norm depends on the cell alone; batch norm
        remembers the reference's statistics, which do not survive another run.
    """

    def __init__(
        self,
        n_in: int,
        n_hidden: int,
        n_covariates: int = 0,
        n_layers: int = 1,
        dropout: float = 0.0,
        norm: NormKind = "layer",
    ):
        super().__init__()
        widths = [n_in, *([n_hidden] * n_layers)]
        self.linears = nn.ModuleList(nn.Linear(n + n_covariates, n_hidden) for n in widths[:-1])
        self.norms = nn.ModuleList(_norm(norm, n_hidden) for _ in range(n_layers))
        self.dropout = nn.Dropout(dropout)
        self.n_covariates = n_covariates

    def forward(self, x: Tensor, covariates: Tensor | None = None, offset: Tensor | None = None) -> Tensor:
        """Map ``x``, (..., n_in), and ``covariates``, (..., n_covariates), to (..., n_hidden).

        ``offset``, (..., n_hidden), is added to what the first layer's linear map gives: the part of that map which
        somebody else has computed, from sparse rows for one.
        """
        for linear, norm in zip(self.linears, self.norms, strict=True):
            if self.n_covariates and covariates is not None:
                x = torch.cat((x, covariates), dim=-1)
            x = linear(x)
            if offset is not None:
                x, offset = x + offset, None
            x = self.dropout(torch.relu(norm(x)))
        return x
