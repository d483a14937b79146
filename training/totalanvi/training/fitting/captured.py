"""Training steps that a GPU repeats by itself: recorded once, then replayed with other cells.

A step is a thousand small operations, which a GPU does faster than Python asks for them. A CUDA graph is a record of
them, asked for at once. It reads and writes the same memory each time: so the mini-batch, the weights of the loss and
the learning rates are copied to fixed places first, and the sums of the history stay in place. Shapes and the
operations themselves are fixed, too: mini-batches of another size, and those in which the adversary rests, have a
record of their own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from totalanvi.training.fitting.static_batch import StaticBatch
from totalanvi.training.fitting.step_weights import StepWeights
from totalanvi.training.loaders import TrainingBatch

__all__ = ["CapturedSteps", "Recorder", "Step"]

_MOST_RECORDS = 6

Step: TypeAlias = Callable[[TrainingBatch, StepWeights, Sequence[Any]], None]
"""A training step: cells on the device, weights, and the optimisers of the model and, if any, of the adversary."""


class Recorder(Protocol):
    """What records work; `totalanvi.training.fitting.cuda_graph` has the one for a GPU."""

    def warm_up(self, work: Callable[[], None]) -> None:
        """Do the work as it is, so that whatever is made but once exists."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record the work, without doing it; return what does it."""


class CapturedSteps:
    """Does training steps: the first of each kind as it is, and all others from a record.

    Parameters
    ----------
    step
        The step. Nothing in it may depend on what is computed on the device but through tensors.
    optimizers
        Fused ones of torch's: the model's and, if any, the adversary's.
    recorder
        What records.

    Examples
    --------
    >>> steps = CapturedSteps(plan.step, optimizers, CudaGraphs(device))  # doctest: +SKIP
    >>> steps(cells, StepWeights(kl=1.0, protein=3.0, adversary=None))  # doctest: +SKIP
    """

    def __init__(self, step: Step, optimizers: Sequence[torch.optim.Optimizer], recorder: Recorder):
        self._step = step
        self._optimizers = optimizers
        self._recorder: Recorder | None = recorder
        self._records: dict[tuple[int, bool], _Record | None] = {}
        """By number of cells and whether the adversary takes part; `None` before the second step of a kind."""

    def __call__(self, cells: TrainingBatch, weights: StepWeights) -> None:
        """Do one step; cells on the device."""
        kind = cells.n_cells, weights.adversary is not None
        if self._recorder is None or (kind not in self._records and len(self._records) == _MOST_RECORDS):
            self._step(cells, weights, self._optimizers)
        elif kind not in self._records:
            self._recorder.warm_up(lambda: self._step(cells, weights, self._optimizers))
            self._records[kind] = None
        elif (record := self._record_that_fits(kind, cells, weights, self._recorder)) is None:
            self._step(cells, weights, self._optimizers)
        else:
            record.fill(cells, weights)
            record.replay()

    def _record_that_fits(
        self, kind: tuple[int, bool], cells: TrainingBatch, weights: StepWeights, recorder: Recorder
    ) -> _Record | None:
        """Return the record of this kind, made anew for a mini-batch of too many counts; `None` where CUDA refuses."""
        record = self._records[kind]
        if record is not None and record.batch.fits(cells):
            return record
        self._records[kind] = None  # gives its memory back
        record = _Record(cells, self._optimizers, recorder)
        try:
            record.make(self._step, weights)
        except RuntimeError as error:
            self._recorder = None
            warnings.warn(
                f"Expected a training step that CUDA can record, found one that it refuses ({_first_line(error)}); "
                "training goes on without, as it would with cuda_graphs=False, and takes longer.",
                UserWarning,
                stacklevel=2,
            )
            return None
        self._records[kind] = record
        return record


class _Record:
    """A recorded step, and the memory that it reads."""

    replay: Callable[[], None]
    """Does the step with what was filled in last."""

    def __init__(self, like: TrainingBatch, optimizers: Sequence[torch.optim.Optimizer], recorder: Recorder):
        self.batch = StaticBatch(like)
        self._optimizers = optimizers
        self._recorder = recorder
        self._groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        self._device = like.label.device
        self._numbers = torch.zeros(3 + len(self._groups), device=self._device)
        self._filled: list[float] = []

    def make(self, step: Step, weights: StepWeights) -> None:
        """Record ``step``; of ``weights``, whether the adversary takes part is all that matters."""
        kl, protein, adversary, *rates = self._numbers.unbind()
        static = StepWeights(kl, protein, None if weights.adversary is None else adversary)

        def work() -> None:
            with _rates_as_tensors(self._groups, rates):
                step(self.batch.cells, static, self._optimizers)

        self.replay = self._recorder.record(work)

    def fill(self, cells: TrainingBatch, weights: StepWeights) -> None:
        """Take in what differs from step to step, without waiting for the device."""
        self.batch.fill(cells)
        parts = (weights.kl, weights.protein, weights.adversary or 0.0)
        numbers = [float(number) for number in (*parts, *(group["lr"] for group in self._groups))]
        if numbers != self._filled:
            told = torch.tensor(numbers, pin_memory=self._device.type == "cuda")
            self._numbers.copy_(told, non_blocking=True)
            self._filled = numbers


@contextmanager
def _rates_as_tensors(groups: list[dict[str, Any]], rates: list[Tensor]) -> Iterator[None]:
    """Let optimisers read learning rates from the device.

    Elsewhere they stay numbers: schedules, history and interrupted runs know them as such.
    """
    as_they_were = [(group["lr"], group["capturable"]) for group in groups]
    try:
        for group, rate in zip(groups, rates, strict=True):
            group.update(lr=rate, capturable=True)
        yield
    finally:
        for group, (lr, capturable) in zip(groups, as_they_were, strict=True):
            group.update(lr=lr, capturable=capturable)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
