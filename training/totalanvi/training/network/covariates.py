"""What a cell is encoded and decoded with besides its counts: its batch, and the covariates that a user names.

Batch and categorical covariates are one-hot and enter every layer; continuous covariates stand beside the first input,
beside z in the decoders. To the encoder, a batch that is not known is all zeros.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from totalanvi.training.data import CellBatch, Cells
from totalanvi.training.network.dimensions import Dimensions

__all__ = ["Covariates", "UsualCovariates"]


class Covariates(NamedTuple):
    """Covariates of cells as the network takes them."""

    batch: Tensor
    """One-hot batch, (..., batches); all zero where it is unknown."""
    categorical: Tensor | None = None
    """One-hot categorical covariates side by side, (..., categories of all); `None` where there are none."""
    continuous: Tensor | None = None
    """(..., continuous covariates); `None` where there are none."""

    @classmethod
    def of(cls, cells: CellBatch, dims: Dimensions) -> Covariates:
        """Covariates of a mini-batch."""
        dtype = cells.protein.dtype
        one_hots = _one_hots(cells.categorical, dims, dtype)
        return cls(
            batch=F.one_hot(cells.batch, dims.n_batches).to(dtype),
            categorical=torch.cat(one_hots, dim=-1) if one_hots else None,
            continuous=cells.continuous if dims.n_continuous else None,
        )

    @property
    def injected(self) -> Tensor:
        """What every layer sees, (..., batches and categories)."""
        return self.batch if self.categorical is None else torch.cat((self.batch, self.categorical), dim=-1)

    def beside(self, x: Tensor) -> Tensor:
        """``x``, (..., features), with the continuous covariates beside it."""
        return x if self.continuous is None else torch.cat((x, self.continuous), dim=-1)

    def repeated(self, n: int) -> Covariates:
        """Repeat those of all cells, (cells, ...), for each of ``n`` views of the cells, (n, cells, ...)."""

        def each(value: Tensor) -> Tensor:
            return value.expand(n, *value.shape)

        batch, *others = self
        return Covariates(each(batch), *(None if value is None else each(value) for value in others))

    def with_batch(self, code: int | None) -> Covariates:
        """Pretend that all cells are of one batch; `None` keeps each cell's own."""
        if code is None:
            return self
        one = F.one_hot(torch.tensor(code, device=self.batch.device), self.batch.shape[-1]).to(self.batch.dtype)
        return self._replace(batch=one.expand_as(self.batch))


class UsualCovariates(nn.Module):
    """Covariates of a cell of which nobody tells them: the reference's average.

    A query that an endpoint maps brings counts, and no covariates. Where the reference had some, its cells' shares of
    the categories and means of the continuous covariates stand in.
    """

    categorical: Tensor | None
    continuous: Tensor | None

    def __init__(self, dims: Dimensions):
        super().__init__()
        n_categories, n_continuous = sum(dims.n_categories), dims.n_continuous
        self.register_buffer("categorical", torch.zeros(n_categories) if n_categories else None)
        self.register_buffer("continuous", torch.zeros(n_continuous) if n_continuous else None)

    def learn(self, cells: Cells, dims: Dimensions) -> None:
        """Take the averages of these cells."""
        if self.categorical is not None:
            one_hots = _one_hots(torch.from_numpy(cells.categorical), dims, torch.float32)
            self.categorical.copy_(torch.cat([one_hot.mean(dim=0) for one_hot in one_hots]))
        if self.continuous is not None:
            self.continuous.copy_(torch.from_numpy(cells.continuous.mean(axis=0)))

    def forward(self, batch: Tensor) -> Covariates:
        """Complete a one-hot batch, (..., batches)."""
        return Covariates(batch, *(_like(value, batch) for value in (self.categorical, self.continuous)))


def _one_hots(codes: Tensor, dims: Dimensions, dtype: torch.dtype) -> list[Tensor]:
    """One-hot codes of each categorical covariate, (cells, covariates) → (cells, its categories) each."""
    return [F.one_hot(codes[:, i], n).to(dtype) for i, n in enumerate(dims.n_categories)]


def _like(value: Tensor | None, batch: Tensor) -> Tensor | None:
    return None if value is None else value.expand(*batch.shape[:-1], value.shape[-1])
