"""Fully connected stacks that see the covariates in every layer."""

from __future__ import annotations

from typing import Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from totalanvi.training.network.late_gradients import Linear

__all__ = ["BatchNorm", "FullyConnected", "Head", "NormKind"]

NormKind = Literal["batch", "layer", "batch+layer", "none"]


class BatchNorm(nn.BatchNorm1d):
    """Batch norm that takes leading dimensions, and that can be told to keep what it has learned.

    Parameters
    ----------
    n_features
        Features of a cell.
    """

    def __init__(self, n_features: int):
        super().__init__(n_features, momentum=0.01, eps=0.001)
        self.frozen = False

    def train(self, mode: bool = True) -> Self:
        """Set the mode; a frozen one stays in evaluation mode, and so do its running statistics."""
        return super().train(mode and not self.frozen)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (..., features). Torch itself would take a third axis for positions within a channel.

        In training, views of the cells, (views, cells, features), have statistics of their own each. A single cell has
        no variance: in training, too, it is normalised with the running statistics, which stay.
        """
        if self.training and x.dim() > 2:
            return torch.stack([self(view) for view in x])
        cells = x if x.dim() == 2 else x.flatten(0, -2)
        if self.training and len(cells) == 1:
            mean, variance = self.running_mean, self.running_var
            return F.batch_norm(cells, mean, variance, self.weight, self.bias, eps=self.eps).view_as(x)
        return super().forward(cells).view_as(x)


def _norm(kind: NormKind, n_features: int) -> nn.Module:
    if kind == "batch":
        return BatchNorm(n_features)
    if kind == "layer":
        return nn.LayerNorm(n_features)
    if kind == "batch+layer":
        return nn.Sequential(BatchNorm(n_features), nn.LayerNorm(n_features))
    return nn.Identity()


class Head(Linear):
    """A linear map out of the network, whose results have the precision of its weights.

    Where training is told to use half precision, the network does; likelihoods and divergences, which add up thousands
    of terms, would lose their digits.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., n_in) to (..., n_out)."""
        return super().forward(x).to(self.weight.dtype)


class Dropout(nn.Dropout):
    """Dropout whose random numbers cost a CPU little: sixteen bits an entry are enough to decide on it.

    The rate is rounded to the next 65,536th, and so is what is kept scaled by.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Set entries of ``x``, of any shape, to zero in training."""
        n_dropped = round(self.p * 2**16)
        if not self.training or not 0 < n_dropped < 2**16 or x.device.type != "cpu":
            return super().forward(x)
        draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
        # 1 where a draw is n_dropped − 2¹⁵ or more, else 0: without a comparison, which torch does one by one.
        kept = draws[: x.numel()].view(x.shape).float().sub_(n_dropped - 2**15 - 1).clamp_(0.0, 1.0)
        return x * kept.mul_(2**16 / (2**16 - n_dropped)).to(x.dtype)


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
        self.linears = nn.ModuleList(Linear(n + n_covariates, n_hidden) for n in widths[:-1])
        self.norms = nn.ModuleList(_norm(norm, n_hidden) for _ in range(n_layers))
        self.dropout = Dropout(dropout)
        self.n_covariates = n_covariates

    def forward(
        self, x: Tensor, covariates: Tensor | None = None, offset: Tensor | None = None, code: Tensor | None = None
    ) -> Tensor:
        """Map ``x``, (..., n_in), and ``covariates``, (..., n_covariates), to (..., n_hidden).

        ``offset``, (..., n_hidden), is added to what the first layer's linear map gives: the part of that map which
        somebody else has computed, from sparse rows for one. Where the covariates are a single one-hot code, ``code``,
        (cells,), says the same at a cost that does not grow with their number.
        """
        for linear, norm in zip(self.linears, self.norms, strict=True):
            if self.n_covariates and covariates is not None:
                x = torch.cat((x, covariates), dim=-1)
            x = linear(x) if code is None else _linear_of_code(linear, x, code)
            if offset is not None:
                x, offset = x + offset, None
            x = self.dropout(torch.relu(norm(x)))
        return x

    def of_shared(self, x: Tensor, shared: Tensor, covariates: Tensor | None, offset: Tensor | None = None) -> Tensor:
        """Do what `forward` does for cells that have all in common but ``x``: that is looked at once.

        Parameters
        ----------
        x
            What the cells do not share of the first layer's input, (cells, n_x).
        shared
            What follows it there, without the covariates, (1, n_in - n_x).
        covariates
            (1, n_covariates).
        offset
            As `forward` takes it, (cells, n_hidden).
        """
        injected = [] if covariates is None else [covariates]
        beside = [shared, *injected]
        for linear, norm in zip(self.linears, self.norms, strict=True):
            x = _linear_beside(linear, x, beside)
            if offset is not None:
                x, offset = x + offset, None
            x = self.dropout(torch.relu(norm(x)))
            beside = injected
        return x


def _linear_beside(linear: nn.Module, x: Tensor, beside: list[Tensor]) -> Tensor:
    """``linear`` of ``x``, (cells, n), with the same rows, (1, ...), beside each of its own."""
    assert isinstance(linear, nn.Linear)
    n = x.shape[-1]
    of_x, of_beside = torch.split(linear.weight, [n, linear.in_features - n], dim=1)
    offset = F.linear(torch.cat(beside, dim=-1), of_beside, linear.bias) if beside else linear.bias
    return torch.addmm(offset, x, of_x.t())


def _linear_of_code(linear: nn.Module, x: Tensor, code: Tensor) -> Tensor:
    """``linear`` of ``x``, (cells, n), with the one-hot ``code``, (cells,), beside it."""
    assert isinstance(linear, nn.Linear)
    n = x.shape[-1]
    of_x, of_code = torch.split(linear.weight, [n, linear.in_features - n], dim=1)
    return F.linear(x, of_x, linear.bias) + of_code.index_select(1, code).t()
