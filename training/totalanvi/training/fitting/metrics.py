"""What the history of a run holds, summed up on the device and read once an epoch.

A metric that is handed to Lightning in every step costs more time there than the arithmetic of a small step; sums that
stay on the device cost next to nothing, and nobody waits for the device to read them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from totalanvi.training.data import UNLABELLED

__all__ = ["METRICS", "EpochMeans", "LabelScores", "classification_loss"]

_ELBO = ("elbo", "reconstruction_loss", "reconstruction_loss_gene", "reconstruction_loss_protein")
_PENALTIES = ("kl_local", "kl_global", "efficiency_penalty")
_LABELS = ("classification_loss", "accuracy", "f1_score", "calibration_error")
_SPLITS = ("train", "validation")

METRICS = (
    *(f"{name}_{split}" for split in _SPLITS for name in (*_ELBO, *_PENALTIES)),
    *(f"{split}_{name}" for split in _SPLITS for name in ("loss", *_LABELS)),
)
"""Every metric that may be watched; those of labels are there only where labels are."""

_N_BINS = 15

Total: TypeAlias = Callable[[Tensor], Tensor]
"""From a tensor of this process to its sum over all processes that train together."""


def classification_loss(logits: Tensor, label: Tensor) -> Tensor:
    """CE(q(c | z), c*), the mean over the labelled cells; 0 where there are none.

    Parameters
    ----------
    logits
        Logits of q(c | z), (cells, labels).
    label
        Label codes, (cells,), `UNLABELLED` for cells that are left out.
    """
    total = F.cross_entropy(logits, label, ignore_index=UNLABELLED, reduction="sum")
    return total / (label != UNLABELLED).sum().clamp(min=1)


class EpochMeans:
    """Means over the cells of an epoch.

    The sums stay where they are in memory, from the first mini-batch to the end of the run: a recorded step adds to
    them (see `captured`).
    """

    def __init__(self) -> None:
        self._totals: dict[tuple[str, ...], Tensor] = {}
        """By the names of metrics that come together: sums over cells, and the number of cells, (metrics + 1,)."""

    @torch.no_grad()
    def add(self, means: Mapping[str, Tensor | float], n_cells: int) -> None:
        """Take in means over a mini-batch of ``n_cells``, at least one of them a tensor."""
        names = tuple(means)
        like = next(mean for mean in means.values() if isinstance(mean, Tensor))
        values = torch.stack([mean if isinstance(mean, Tensor) else like.new_full((), mean) for mean in means.values()])
        values = torch.cat((values, values.new_ones(1)))
        if names not in self._totals:
            self._totals[names] = torch.zeros_like(values)
        self._totals[names].add_(values, alpha=n_cells)

    def take(self, total: Total | None = None) -> dict[str, float]:
        """Return the means over all cells since the last call, and begin anew.

        Parameters
        ----------
        total
            Where several processes train together, all of them have met metrics of the same names.
        """
        sums: dict[str, float] = {}
        n_cells: dict[str, float] = {}
        for names, totals in self._totals.items():
            of_all = totals if total is None else total(totals.double())
            *values, n = of_all.tolist()
            totals.zero_()
            for name, value in zip(names, values, strict=True):
                sums[name] = sums.get(name, 0.0) + value
                n_cells[name] = n_cells.get(name, 0.0) + n
        return {name: value / n_cells[name] for name, value in sums.items() if n_cells[name]}


class LabelScores:
    """How well q(c | z) tells the labels of an epoch's labelled cells; its sums stay in place, like those of means."""

    def __init__(self) -> None:
        self._confusion: Tensor | None = None
        self._bins: Tensor
        self._loss: Tensor

    @torch.no_grad()
    def add(self, logits: Tensor, label: Tensor) -> None:
        """Take in a mini-batch.

        Parameters
        ----------
        logits
            Logits of q(c | z), (cells, labels).
        label
            Label codes, (cells,), `UNLABELLED` for cells that are left out.
        """
        logits = logits.detach().float()
        n_labels = logits.shape[-1]
        if self._confusion is None:
            self._confusion = logits.new_zeros(n_labels * n_labels)
            self._bins = logits.new_zeros(3, _N_BINS)
            self._loss = logits.new_zeros(())
        known = (label != UNLABELLED).float()
        truth = label.clamp(min=0)
        confidence, predicted = logits.softmax(dim=-1).max(dim=-1)
        self._confusion.index_add_(0, truth * n_labels + predicted, known)
        # (cells) → bins of equal width: how many, how sure, how often right.
        # What is no number falls into the first: it is told of at the end of the epoch, not by an index out of range.
        position = (confidence * _N_BINS).nan_to_num().long().clamp(max=_N_BINS - 1)
        values = torch.stack((known, known * confidence, known * (predicted == truth)))
        self._bins.index_add_(1, position, values)
        self._loss += F.cross_entropy(logits, label, ignore_index=UNLABELLED, reduction="sum")

    def take(self, total: Total | None = None) -> dict[str, Tensor]:
        r"""Return the scores over all labelled cells since the last call, and begin anew; none where there were none.

        The F1 score is the mean over the labels that occur or are predicted. The calibration error is the expected one
        over fifteen bins of confidence,

        .. math::

            \mathrm{ECE} = \sum_b \frac{n_b}{n} |\mathrm{accuracy}_b - \mathrm{confidence}_b|

        References
        ----------
        Guo et al.: On calibration of modern neural networks. ICML 2017, equation 3.
        """
        if self._confusion is None:
            return {}
        flat, bins, loss = (sums.clone() for sums in (self._confusion, self._bins, self._loss))
        for sums in (self._confusion, self._bins, self._loss):
            sums.zero_()
        if total is not None:
            flat, bins, loss = total(flat), total(bins), total(loss)
        if not bool(flat.sum()):
            return {}
        n_labels = round(len(flat) ** 0.5)
        confusion = flat.view(n_labels, n_labels)
        n, right = confusion.sum(), confusion.diagonal()
        marginals = confusion.sum(dim=0) + confusion.sum(dim=1)
        occurs = marginals > 0
        return {
            "classification_loss": loss / n,
            "accuracy": right.sum() / n,
            "f1_score": (2 * right[occurs] / marginals[occurs]).mean(),
            "calibration_error": (bins[2] - bins[1]).abs().sum() / n,
        }
