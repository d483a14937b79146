"""Pairs of cells and labels: exact where labels are few, unbiased in value and gradient where they are many."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from totalanvi.training.data import UNLABELLED
from totalanvi.training.network.labels import pair_labels, pair_labels_evenly

N_LABELS = 5


def score(label: Tensor, parameter: Tensor) -> Tensor:
    """A function of the label, with a gradient of its own."""
    return torch.sin(3.0 * label.to(parameter.dtype)) * parameter + parameter**2 * label


@pytest.fixture
def logits() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(3, N_LABELS, dtype=torch.float64, requires_grad=True)


def test_few_labels_are_summed_exactly(logits: Tensor) -> None:
    label = torch.tensor([UNLABELLED, 2, UNLABELLED])
    probabilities = logits.softmax(dim=-1)
    parameter = torch.tensor(0.7, dtype=torch.float64)
    pairs = pair_labels(probabilities, label, n_exact=N_LABELS - 1)
    sums = pairs.sum_into_cells(score(pairs.label, parameter), 3)
    every = score(torch.arange(N_LABELS), parameter)
    expected = torch.stack([probabilities[0] @ every, every[2], probabilities[2] @ every])
    assert torch.allclose(sums, expected)


def test_a_labelled_cell_costs_one_pair_whatever_the_number_of_labels(logits: Tensor) -> None:
    label = torch.tensor([3, UNLABELLED, 1])
    for n_exact, n_unlabelled in ((1, 2), (2, 3), (4, N_LABELS), (50, N_LABELS)):
        pairs = pair_labels(logits.softmax(dim=-1), label, n_exact)
        assert torch.bincount(pairs.cell, minlength=3).tolist() == [1, n_unlabelled, 1]
        of_labelled = pairs.cell != 1
        assert torch.equal(pairs.label[of_labelled], torch.tensor([3, 1]))
        assert torch.equal(pairs.weight[of_labelled], torch.ones(2, dtype=torch.float64))
        assert torch.isclose(pairs.weight[~of_labelled].sum(), torch.ones((), dtype=torch.float64))


def test_an_unlabelled_cell_never_counts_a_label_twice(logits: Tensor) -> None:
    unlabelled = torch.full((3,), UNLABELLED)
    for _ in range(50):
        pairs = pair_labels(logits.softmax(dim=-1), unlabelled, n_exact=2)
        for cell in range(3):
            labels = pairs.label[pairs.cell == cell]
            assert len(labels.unique()) == len(labels) == 3


@pytest.mark.parametrize("n_exact", [1, 2, 3])
def test_one_draw_for_the_rest_is_unbiased_in_value_and_gradient(logits: Tensor, n_exact: int) -> None:
    """All draws are enumerated: each is found by sampling, and weighted with the probability that it is drawn."""
    logits = logits[:1].detach().requires_grad_()
    parameter = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    unlabelled = torch.tensor([UNLABELLED])
    probabilities = logits.softmax(dim=-1)
    exact = probabilities @ score(torch.arange(N_LABELS), parameter)
    expected = [exact.squeeze(), *torch.autograd.grad(exact, (logits, parameter), retain_graph=True)]

    rest = set(range(N_LABELS)) - set(probabilities[0].topk(n_exact).indices.tolist())
    mass = sum(float(probabilities[0, label].detach()) for label in rest)
    average = [torch.zeros_like(value) for value in expected]
    torch.manual_seed(1)
    while rest:
        probabilities = logits.softmax(dim=-1)
        pairs = pair_labels(probabilities, unlabelled, n_exact)
        drawn = int(pairs.label[-1])
        if drawn not in rest:
            continue
        rest.remove(drawn)
        estimate = pairs.sum_into_cells(score(pairs.label, parameter), 1)
        values = [estimate.squeeze(), *torch.autograd.grad(estimate, (logits, parameter))]
        chance = float(probabilities[0, drawn].detach()) / mass
        average = [total + chance * value.detach() for total, value in zip(average, values, strict=True)]
    for ours, exactly in zip(average, expected, strict=True):
        assert torch.allclose(ours, exactly.detach(), rtol=1e-9)


def test_labels_are_drawn_with_their_probability(logits: Tensor) -> None:
    probabilities = logits[:1].softmax(dim=-1).detach()
    n_cells = 20_000
    pairs = pair_labels(probabilities.expand(n_cells, -1), torch.full((n_cells,), UNLABELLED), n_exact=1)
    drawn = pairs.label.view(n_cells, 2)[:, 1]
    rest = probabilities[0].clone()
    rest[probabilities[0].argmax()] = 0
    share = torch.bincount(drawn, minlength=N_LABELS) / n_cells
    assert torch.allclose(share.double(), rest / rest.sum(), atol=0.015)


def test_certainty_leaves_nothing_for_the_draw() -> None:
    """Probabilities that round to zero give a draw of weight zero, and finite gradients."""
    logits = torch.tensor([[300.0, 0.0, -10.0, -20.0]], requires_grad=True)
    pairs = pair_labels(logits.softmax(dim=-1), torch.tensor([UNLABELLED]), n_exact=1)
    assert pairs.weight.tolist() == [1.0, 0.0]
    pairs.sum_into_cells(torch.tensor([3.0, 5.0]), 1).sum().backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("label", [[0, 1], [UNLABELLED, UNLABELLED]])
def test_batches_of_one_kind(label: list[int]) -> None:
    probabilities = torch.full((2, N_LABELS), 1 / N_LABELS)
    pairs = pair_labels(probabilities, torch.tensor(label), n_exact=2)
    assert torch.allclose(pairs.sum_into_cells(torch.ones(len(pairs.cell)), 2), torch.ones(2))


def test_pairs_of_small_weight_are_kept_by_chance_and_without_bias(logits: Tensor) -> None:
    """Over many cells alike, the sums average to the exact one, and so do the gradients."""
    n_cells, sure = 20_000, 0.3
    logits = logits[:1].detach().requires_grad_()
    parameter = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    exact = logits.softmax(dim=-1) @ score(torch.arange(N_LABELS), parameter)
    expected = [exact.squeeze(), *torch.autograd.grad(exact, (logits, parameter))]

    torch.manual_seed(0)
    probabilities = logits.softmax(dim=-1).expand(n_cells, -1)
    pairs = pair_labels(probabilities, torch.full((n_cells,), UNLABELLED), n_exact=2, sure=sure)
    assert n_cells < len(pairs.cell) < 2.5 * n_cells
    assert (pairs.weight >= sure - 1e-9).all()
    mean = pairs.sum_into_cells(score(pairs.label, parameter), n_cells).mean()
    found = [mean, *torch.autograd.grad(mean, (logits, parameter))]
    for value, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(value, wanted, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("n_exact", [1, 2, N_LABELS - 1, 50])
def test_as_many_pairs_for_each_cell_have_the_same_sums(n_exact: int) -> None:
    torch.manual_seed(0)
    logits = torch.randn(40, N_LABELS, dtype=torch.float64, requires_grad=True)
    label = torch.randint(UNLABELLED, N_LABELS, (40,))
    unlabelled = label == UNLABELLED
    parameter = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    found = []
    for pair in (pair_labels, pair_labels_evenly):
        # The draws of the unlabelled cells come first in one and are among those of all cells in the other.
        cells = unlabelled if n_exact < N_LABELS - 1 else torch.ones_like(unlabelled)
        torch.manual_seed(1)
        pairs = pair(logits[cells].softmax(dim=-1), label[cells], n_exact)
        sums = pairs.sum_into_cells(score(pairs.label, parameter), int(cells.sum()))
        found.append((sums, *torch.autograd.grad(sums.square().sum(), (logits, parameter))))
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other)


def test_as_many_pairs_of_a_labelled_cell_know_no_other_label(logits: Tensor) -> None:
    label = torch.tensor([3, UNLABELLED, 1])
    pairs = pair_labels_evenly(logits.softmax(dim=-1), label, n_exact=2)
    assert torch.equal(pairs.of_cells(torch.arange(3)[:, None]).squeeze(-1), pairs.cell)
    assert pairs.label.view(3, 3)[[0, 2]].tolist() == [[3] * 3, [1] * 3]
    assert pairs.weight.view(3, 3)[[0, 2]].tolist() == [[1.0, 0.0, 0.0]] * 2
    assert torch.isclose(pairs.weight.view(3, 3)[1].sum(), torch.ones((), dtype=torch.float64))
