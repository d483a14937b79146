"""Gradients that another thread computes are those of autograd, bit by bit, and come in training steps alone."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from totalanvi.training.data import SparseRows
from totalanvi.training.network.late_gradients import LateGradients, Linear
from totalanvi.training.network.sparse_linear import SparseLinear

N_CELLS, N_GENES, N_HIDDEN = 9, 13, 6


class Network(nn.Module):
    """Sparse rows → one map for two views → another."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = SparseLinear(N_GENES, N_HIDDEN), Linear(N_HIDDEN, 5), Linear(5, 3)

    def forward(self, rows: SparseRows) -> Tensor:
        hidden = torch.stack([self.first(rows), 2.0 * self.first(rows)])
        return self.third(torch.relu(self.second(hidden))).square().sum()


@pytest.fixture
def late() -> Iterator[LateGradients]:
    with ThreadPoolExecutor(1) as executor:
        yield LateGradients(executor)


@pytest.fixture
def rows() -> SparseRows:
    counts = np.random.default_rng(0).poisson(0.5, (N_CELLS, N_GENES)).astype(np.float32)
    return SparseRows.from_scipy(sp.csr_matrix(counts))


def network(late: LateGradients | None = None) -> Network:
    torch.manual_seed(0)
    made = Network()
    for layer in (made.first, made.second, made.third):
        layer.late = late
    return made


def step(net: Network, rows: SparseRows, late: LateGradients) -> None:
    with late:
        loss = net(rows)
        late.begin()
        loss.backward()
        late.finish()


def gradients(net: Network) -> list[Tensor]:
    return [weight.grad for weight in net.parameters() if weight.grad is not None]


def expected(rows: SparseRows, n_times: int = 1) -> list[Tensor]:
    net = network()
    for _ in range(n_times):
        net(rows).backward()
    return gradients(net)


def test_gradients_are_those_of_autograd_bit_by_bit(late: LateGradients, rows: SparseRows) -> None:
    net = network(late)
    step(net, rows, late)
    found = gradients(net)
    assert len(found) == 5
    assert all(map(torch.equal, found, expected(rows)))


def test_gradients_are_added_to_those_of_before(late: LateGradients, rows: SparseRows) -> None:
    net = network(late)
    for _ in range(2):
        step(net, rows, late)
    for one, other in zip(gradients(net), expected(rows, 2), strict=True):
        torch.testing.assert_close(one, other)


def test_who_waits_for_the_thread_computes_meanwhile(rows: SparseRows) -> None:
    may_go_on = Event()
    with ThreadPoolExecutor(1) as executor:
        late = LateGradients(executor)
        net = network(late)
        busy = executor.submit(may_go_on.wait)
        with late:
            loss = net(rows)
            late.begin()
            loss.backward()
            late.help(busy)  # there is an end to what can be done
            may_go_on.set()
            late.finish()
    assert all(map(torch.equal, gradients(net), expected(rows)))


def test_outside_a_step_autograd_computes_them(late: LateGradients, rows: SparseRows) -> None:
    net = network(late)
    net(rows).backward()
    assert all(map(torch.equal, gradients(net), expected(rows)))


def test_who_listens_to_a_weight_hears_its_gradient(late: LateGradients, rows: SparseRows) -> None:
    net, heard = network(late), []
    net.second.weight.register_hook(heard.append)
    net.third.bias.register_post_accumulate_grad_hook(heard.append)
    step(net, rows, late)
    assert len(heard) == 2
    assert all(map(torch.equal, gradients(net), expected(rows)))


def test_a_frozen_map_passes_the_gradient_on(late: LateGradients, rows: SparseRows) -> None:
    net, other = network(late), network()
    for each in (net, other):
        each.second.weight.requires_grad_(False)
    step(net, rows, late)
    other(rows).backward()
    assert net.second.weight.grad is None
    assert all(map(torch.equal, gradients(net), gradients(other)))


def test_what_fails_beside_fails_in_the_step(late: LateGradients, rows: SparseRows) -> None:
    def fail() -> list[Tensor]:
        raise ValueError("failed")

    def failing_step() -> None:
        with late:
            late.begin()
            late.add([nn.Parameter(torch.ones(1))], fail)
            late.finish()

    with pytest.raises(ValueError, match="failed"):
        failing_step()
    net = network(late)
    step(net, rows, late)  # and the next step is as if nothing had been
    assert all(map(torch.equal, gradients(net), expected(rows)))


def test_a_step_that_fails_leaves_the_thread_free(late: LateGradients, rows: SparseRows) -> None:
    def failing_step() -> None:
        with late:
            late.begin()
            raise RuntimeError("elsewhere")

    with pytest.raises(RuntimeError, match="elsewhere"):
        failing_step()
    net = network(late)
    step(net, rows, late)
    assert all(map(torch.equal, gradients(net), expected(rows)))


def test_copies_of_a_network_that_trains_do_not(late: LateGradients) -> None:
    net = network(late)
    for made in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert made.second.late is None
        assert torch.equal(made.second.weight, net.second.weight)
