"""Negative log-probability of RNA counts from the features of the last layer, by this thread or by another one.

The last layer, its likelihood and the slopes of both are a third of a step. They need nothing of the rest of it, nor
does the rest need them before their gradient reaches the features. So another thread may compute them beside the rest:
then results are not numbers until their gradient has been asked for.

The gradient of a weight is a sum over cells, for which the gradient of every cell's result has to be known, before
anybody has asked for it. In training, where results are averaged, it is the same for all cells, so that a sum which
takes it as 1 is the one that is wanted, times a number. Where it turns out to differ from cell to cell, and where it is
asked for again, all is computed anew.

A matrix of cells × genes is the largest thing in a step. Here it is made of some of the cells at a time, and is gone
once it is summed up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from totalanvi.training.data import SparseRows
from totalanvi.training.network.late_gradients import LateGradients, may_be_late
from totalanvi.training.network.rising import log_coefficient, log_coefficient_and_slope
from totalanvi.training.network.softmax_counts import Shares, log_probability, slope_to_log_mean

__all__ = ["Begun", "begin", "negative_log_probability_of_features"]

_MOST_ENTRIES = 2**19
"""Cells times genes in a block, which is half of a mini-batch where genes are few: smaller ones were slower."""
_FEWEST_CELLS = 16
"""In a block, however many genes there are: a matrix product of fewer rows is slow."""


class _OfStored(NamedTuple):
    """What depends on stored counts and dispersions alone."""

    theta: Tensor
    """(genes,)."""
    coefficients: Tensor
    """Logarithm of the part of a count's probability that has no mean in it, (stored,)."""
    slopes: Tensor
    """Its derivative to θ, (stored,)."""


class Begun(NamedTuple):
    """A computation that another thread has begun."""

    beside: Executor
    """Who goes on with it."""
    stored: Future[_OfStored]
    late: LateGradients | None
    """Where gradients of the last layer and of dispersions may come later, who computes them."""


def begin(rows: SparseRows, log_theta: Tensor, beside: Executor, late: LateGradients | None = None) -> Begun:
    """Let another thread compute what depends on counts and dispersions alone, before there are any features.

    Parameters
    ----------
    rows, log_theta
        As in `negative_log_probability_of_features`.
    beside
        Threads that compute it, one task after the other.
    late
        Who computes gradients of parameters, where these may come later.
    """
    return Begun(beside, beside.submit(_of_stored, rows, log_theta.detach()), late)


def negative_log_probability_of_features(
    rows: SparseRows,
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    log_size: Tensor,
    log_theta: Tensor,
    begun: Begun | None = None,
) -> Tensor:
    """``−log p`` of each cell's RNA counts under the negative binomial with mean ``size · softmax(W f + b)``.

    Parameters
    ----------
    rows
        Counts, (cells, genes), sparse, in host memory.
    features
        Input of the last layer, (cells, features).
    weight, bias
        Of the last layer, (genes, features) and (genes,).
    log_size
        Log of what the shares are multiplied by, (cells, 1).
    log_theta
        Log inverse dispersion, (genes,).
    begun
        Of the same counts and dispersions, where other threads compute this beside what the caller does next. The
        result is not a number then until its gradient has been computed.

    Returns
    -------
    Tensor
        (cells,), summed over genes.
    """
    inputs = _Inputs(features, weight, bias, log_size, log_theta)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
        result: Tensor = _CountsOfFeatures.apply(rows, begun, *inputs)  # type: ignore[no-untyped-call]
        return result
    coefficients = log_coefficient(rows.values, log_theta.exp(), rows.columns)
    cells = _blocks(rows, 0, rows.n_rows)
    return torch.cat([-_log_probability(rows, inputs, coefficients, block)[1] for block in cells])


@torch.no_grad()
def _of_stored(rows: SparseRows, log_theta: Tensor) -> _OfStored:
    theta = log_theta.exp()
    return _OfStored(theta, *log_coefficient_and_slope(rows.values, theta, rows.columns))


class _Inputs(NamedTuple):
    features: Tensor
    weight: Tensor
    bias: Tensor
    log_size: Tensor
    log_theta: Tensor


class _CountsOfFeatures(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: SparseRows, begun: Begun | None, *tensors: Tensor) -> Tensor:
        inputs = _Inputs(*(tensor.detach() for tensor in tensors))
        ctx.rows, ctx.inputs, ctx.layer_trains = rows, inputs, any(ctx.needs_input_grad[3:5])
        ctx.work = _Derivation(rows, inputs, inputs.features.new_ones(rows.n_rows), ctx.layer_trains)
        ctx.late, ctx.shared = None, (tensors[4], *tensors[1:3])
        if begun is None:
            ctx.work.do()
        else:
            ctx.late = begun.late if may_be_late(begun.late, *ctx.shared) else None
            ctx.work.start(begun)
        results: Tensor = ctx.work.results
        ctx.work.results = results.detach()  # the same memory, which may be filled later, without what autograd adds
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        of_log_probability = -gradient
        of_first = of_log_probability[0]
        factor: Tensor | None = of_first
        work, ctx.work = ctx.work, None  # its sums are given away
        if work is not None:
            work.finish()
        if work is None or not bool((of_log_probability == of_first).all()):
            work = _Derivation(ctx.rows, ctx.inputs, of_log_probability, ctx.layer_trains)
            work.do()
            factor = None
        by_features, by_log_size = (of_log_probability.unsqueeze(-1) * each for each in work.by_cell)
        if ctx.late is not None:
            ctx.late.add(ctx.shared, lambda: work.sums(factor))
            return None, None, by_features, None, None, by_log_size, None
        by_log_theta, *by_layer = work.sums(factor)
        by_weight, by_bias = by_layer or (None, None)
        return None, None, by_features, by_weight, by_bias, by_log_size, by_log_theta


class _Sums(NamedTuple):
    """Derivatives of a weighted sum of log-probabilities, to what all cells share."""

    log_theta: Tensor
    layer: tuple[Tensor, Tensor] | None
    """To weights, (features, genes), and bias of the last layer; `None` where it does not train. The product takes half
    as long again where the weights come out as (genes, features)."""


class _Derivation:
    """Results of all cells, and derivatives of their log-probabilities and of the weighted sum of these.

    The cells are two halves. Whoever computes them, their sums are added in the same order: so nothing depends on which
    thread came first.

    Parameters
    ----------
    rows, inputs
        As in `negative_log_probability_of_features`; without gradients.
    weights
        Weight of each cell in the sum, (cells,).
    layer_trains
        Whether the derivatives to weights and bias of the last layer are wanted.
    """

    def __init__(self, rows: SparseRows, inputs: _Inputs, weights: Tensor, layer_trains: bool):
        self._rows, self._inputs, self._weights, self._layer_trains = rows, inputs, weights, layer_trains
        middle = rows.n_rows // 2
        halves = [(0, middle), (middle, rows.n_rows)] if middle else [(0, rows.n_rows)]
        self._to_do = deque(enumerate(halves))
        self._done: dict[int, _Sums] = {}
        self._stored: _OfStored
        self._elsewhere: tuple[Begun, Future[None]] | None = None
        self.results = inputs.features.new_full((rows.n_rows,), torch.nan)
        """(cells,)."""
        self.by_cell = torch.empty_like(inputs.features), torch.empty_like(inputs.log_size)
        """Derivatives of each cell's log-probability to its features and to its log size."""

    def start(self, begun: Begun) -> None:
        """Let another thread go on."""
        self._elsewhere = begun, begun.beside.submit(self._halves_after, begun.stored)

    def finish(self) -> None:
        """Do what no other thread has begun, and wait for what one has."""
        if self._elsewhere is not None:
            begun, halves = self._elsewhere
            self._halves_after(begun.stored)
            if begun.late is not None:
                begun.late.help(halves)
            halves.result()

    def do(self) -> None:
        """Do everything."""
        self._stored = _of_stored(self._rows, self._inputs.log_theta)
        self._halves()

    def _halves_after(self, stored: Future[_OfStored]) -> None:
        self._stored = stored.result()
        self._halves()

    @torch.no_grad()
    def _halves(self) -> None:
        """Take halves as long as there are any."""
        while True:
            try:
                half, (start, stop) = self._to_do.popleft()
            except IndexError:
                return
            first, *others = _blocks(self._rows, start, stop)
            sums = self._begin(first)
            for block in others:
                self._add(block, sums)
            self._done[half] = sums

    def _begin(self, block: slice) -> _Sums:
        by_logits, by_log_theta = self._of_block(block)
        if not self._layer_trains:
            return _Sums(by_log_theta, None)
        return _Sums(by_log_theta, (self._weighted(block) @ by_logits, self._weights[block] @ by_logits))

    def _add(self, block: slice, sums: _Sums) -> None:
        by_logits, by_log_theta = self._of_block(block)
        sums.log_theta.add_(by_log_theta)
        if sums.layer is not None:  # in place: with many genes, another matrix of weights is too much
            weight, bias = sums.layer
            weight.addmm_(self._weighted(block), by_logits)
            bias.addmv_(by_logits.t(), self._weights[block])

    def _weighted(self, block: slice) -> Tensor:
        return (self._weights[block].unsqueeze(-1) * self._inputs.features[block]).t()

    def _of_block(self, block: slice) -> tuple[Tensor, Tensor]:
        """Compute the results of some cells; return the derivatives to their logits and, summed up, to log θ."""
        stored = self._stored
        rows, log_p, shares = _log_probability(self._rows, self._inputs, stored.coefficients, block)
        torch.neg(log_p, out=self.results[block])
        weights = self._weights[block]
        by_features, by_log_size = (each[block] for each in self.by_cell)
        slope = slope_to_log_mean(rows, shares, stored.theta)
        torch.sum(slope, dim=-1, keepdim=True, out=by_log_size)
        by_log_theta = (weights @ shares.log_rest).mul_(stored.theta).add_(weights @ slope).neg_()
        by_logits = slope.addcmul_(shares.share, by_log_size, value=-1.0)
        torch.mm(by_logits, self._inputs.weight, out=by_features)
        return by_logits, by_log_theta

    @torch.no_grad()
    def sums(self, factor: Tensor | None) -> list[Tensor]:
        """Derivatives of the weighted sum, times a factor, to log θ and to weights and bias of a layer that trains.

        All is done, and they are asked for once.
        """
        stored = self._stored
        by_theta = torch.zeros_like(stored.theta)
        by_theta.index_add_(0, self._rows.columns, stored.slopes * self._weights.index_select(0, self._rows.rows))
        sums = [[each.log_theta, *(each.layer or ())] for _, each in sorted(self._done.items())]
        total = sums[0]
        for others in sums[1:]:
            for mine, other in zip(total, others, strict=True):
                mine.add_(other)
        total[0].add_(by_theta.mul_(stored.theta))
        if factor is not None:
            for each in total:
                each.mul_(factor)
        return [each.t() for each in total]


def _blocks(rows: SparseRows, start: int, stop: int) -> Iterator[slice]:
    size = max(_MOST_ENTRIES // rows.n_columns, _FEWEST_CELLS)
    for first in range(start, stop, size):
        yield slice(first, min(first + size, stop))


def _log_probability(
    rows: SparseRows, inputs: _Inputs, coefficients: Tensor, block: slice
) -> tuple[SparseRows, Tensor, Shares]:
    """Counts, log-probabilities and shares of some cells; ``coefficients`` are those of all cells' stored counts."""
    logits = torch.addmm(inputs.bias, inputs.features[block], inputs.weight.t())
    stored = coefficients[int(rows.row_starts[block.start]) : int(rows.row_starts[block.stop])]
    some = rows.part(block.start, block.stop)
    return some, *log_probability(some, logits, inputs.log_size[block], inputs.log_theta, stored)
