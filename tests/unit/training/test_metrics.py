"""Metrics of an epoch, summed up step by step, are those of all its cells at once."""

from __future__ import annotations

import pytest
import torch
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_f1_score,
)

from totalanvi.training.data import UNLABELLED
from totalanvi.training.fitting.metrics import EpochMeans, LabelScores, classification_loss

N_LABELS = 5


def drawn(n_cells: int = 400, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that know something of labels, of which the last one never occurs."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(0, N_LABELS - 1, (n_cells,), generator=generator)
    logits = torch.randn(n_cells, N_LABELS, generator=generator) + 1.5 * torch.nn.functional.one_hot(label, N_LABELS)
    label[::7] = UNLABELLED
    return logits, label


def test_means_are_over_cells() -> None:
    means = EpochMeans()
    means.add({"loss": torch.tensor(2.0, requires_grad=True), "weight": 0.5}, 30)
    means.add({"loss": torch.tensor(6.0), "weight": 1.0, "sometimes": torch.tensor(9.0)}, 10)
    assert means.take() == {"loss": 3.0, "weight": 0.625, "sometimes": 9.0}
    assert means.take() == {}


def test_scores_of_labels() -> None:
    logits, label = drawn()
    scores = LabelScores()
    for rows in torch.arange(len(label)).split(64):
        scores.add(logits[rows], label[rows])
    taken = {name: float(value) for name, value in scores.take().items()}
    known = label != UNLABELLED
    logits, label = logits[known], label[known]
    probabilities = logits.softmax(dim=-1)
    expected = {
        "classification_loss": torch.nn.functional.cross_entropy(logits, label),
        "accuracy": multiclass_accuracy(logits, label, N_LABELS, average="micro"),
        "f1_score": multiclass_f1_score(logits, label, N_LABELS, average="macro"),
        "calibration_error": multiclass_calibration_error(probabilities, label, N_LABELS),
    }
    assert taken == pytest.approx({name: float(value) for name, value in expected.items()}, rel=1e-4)
    assert 0.3 < taken["accuracy"] < 0.95
    assert scores.take() == {}


def test_labels_that_nobody_has_or_guesses_do_not_count() -> None:
    scores = LabelScores()
    scores.add(torch.eye(N_LABELS)[:2] * 50.0, torch.tensor([0, 1]))
    taken = scores.take()
    assert float(taken["f1_score"]) == 1.0
    assert float(taken["calibration_error"]) == pytest.approx(0.0, abs=1e-6)


def test_without_labelled_cells_there_are_no_scores() -> None:
    scores = LabelScores()
    assert scores.take() == {}
    logits, label = drawn(8)
    scores.add(logits, torch.full_like(label, UNLABELLED))
    assert scores.take() == {}


def test_the_classification_loss_leaves_unlabelled_cells_out() -> None:
    logits, label = drawn()
    known = label != UNLABELLED
    expected = torch.nn.functional.cross_entropy(logits[known], label[known])
    assert torch.allclose(classification_loss(logits, label), expected)
    nobody = classification_loss(logits.requires_grad_(), torch.full_like(label, UNLABELLED))
    nobody.backward()
    assert nobody.item() == 0.0
    assert torch.equal(logits.grad, torch.zeros_like(logits))
