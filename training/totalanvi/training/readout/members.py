"""Train the members of a readout's ensemble, and weigh their proteins by cells that each has not seen.

Half of the members see cells as they are, and learn most where queries are like the reference. The others see them
through noise as large as the cells' own differences, which costs them detail and leaves what holds elsewhere, too: in
another run, on another donor, or where there are but few cells. `BENCHMARKS.md` says what each kind is worth where.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import nnls
from torch import Tensor

from totalanvi.training.readout.network import ReadoutNetwork
from totalanvi.training.readout.projection import Floats, Targets

__all__ = ["train_members"]

_MOST_STEPS, _FEWEST_STEPS = 2_000, 100
_EPOCHS = 90
_BATCH = 256
_RATE = 3e-3
_WEIGHT_DECAY = 0.1
_NO_PANEL, _WHOLE_PANEL = 0.35, 0.35
"""Shares of cells that are shown without proteins, and with all of them; the others with a random part."""

_NOISE_OF_COMPONENTS, _NOISE_OF_REGRESSIONS, _NOISE_OF_PROTEINS = 1.0, 0.5, 0.5
"""In standard deviations of each among cells."""

_LEFT_OUT = 10
"""One cell of so many is kept from each member, another one from each of a kind."""


def train_members(
    network: ReadoutNetwork, projected: list[Floats], protein: Floats, targets: Targets, seed: int
) -> None:
    """Let each member see its own mini-batches: now this depth, now that, with this panel or another.

    Parameters
    ----------
    network
        With all that is fitted before; is left in evaluation mode, without gradients.
    projected
        What it projects RNA to, for each depth, (cells, columns).
    protein
        Standardised as those of a query, (cells, proteins).
    targets
        Of the cells.
    seed
        Of all draws.
    """
    views = [torch.from_numpy(view) for view in projected]
    shown_protein, wanted = torch.from_numpy(protein), torch.from_numpy(targets.protein)
    measured, label = torch.from_numpy(targets.measured).float(), torch.from_numpy(targets.label)
    n_cells, n_members = len(label), network.dims.n_members
    n_steps = int(np.clip(_EPOCHS * n_cells / _BATCH, _FEWEST_STEPS, _MOST_STEPS))
    optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=n_steps)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        seen = _seen(n_cells, n_members)
        noise, protein_noise = _noise(network, views[0], protein.shape[1])
        network.train()
        for _ in range(n_steps):
            rows = seen.gather(1, torch.randint(seen.shape[1], (n_members, min(_BATCH, n_cells))))
            view = views[int(torch.randint(len(views), ()))][rows]
            shown = measured[rows] * _panel(rows, protein.shape[1])
            _, members = network.opinions(
                view + noise * torch.randn_like(view),
                shown_protein[rows] + protein_noise * torch.randn(*rows.shape, protein.shape[1]),
                shown,
            )
            proteins, logits = torch.split(members, [protein.shape[1], network.dims.n_labels], dim=-1)
            hidden = measured[rows] - shown
            loss = (hidden * (proteins - wanted[rows]) ** 2).sum() / hidden.sum().clamp(min=1.0)
            known = label[rows] >= 0
            if known.any():
                loss = loss + F.cross_entropy(logits[known], label[rows][known])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    network.eval().requires_grad_(False)
    network.protein_shares = _protein_shares(network, views[0], wanted, measured, seen)


def _seen(n_cells: int, n_members: int) -> Tensor:
    """Draw which cells each member sees, (members, cells that one sees); the i-th of both kinds see the same."""
    n_out = n_cells // _LEFT_OUT
    order, everywhere = torch.randperm(n_cells), torch.ones(n_cells, dtype=torch.bool)
    seen = []
    for member in range(n_members):
        keep = everywhere.clone()
        start = (member // 2 * n_out) % max(n_cells, 1)
        keep[order[start : start + n_out]] = False
        seen.append(torch.nonzero(keep)[:, 0])
    return torch.stack(seen)


def _noise(network: ReadoutNetwork, view: Tensor, n_proteins: int) -> tuple[Tensor, Tensor]:
    """Size of the noise in what each member sees: every other one has none, (members, 1, columns) and (…, proteins)."""
    size = view.std(dim=0) * _NOISE_OF_REGRESSIONS
    n_components = network.dims.n_components
    size[:n_components] = view[:, :n_components].std(dim=0) * _NOISE_OF_COMPONENTS
    has_noise = (torch.arange(network.dims.n_members) % 2).float()[:, None, None]
    return has_noise * size, has_noise * torch.full((n_proteins,), _NOISE_OF_PROTEINS)


def _panel(rows: Tensor, n_proteins: int) -> Tensor:
    """Draw which proteins each cell is shown with, 1 or 0, (members, cells, proteins)."""
    kind, share = torch.rand(rows.shape), torch.rand(rows.shape)
    share = torch.where(kind < _NO_PANEL, 0.0, torch.where(kind < _NO_PANEL + _WHOLE_PANEL, 1.0, share))
    return (torch.rand(*rows.shape, n_proteins) < share.unsqueeze(-1)).float()


@torch.no_grad()
def _protein_shares(network: ReadoutNetwork, view: Tensor, wanted: Tensor, measured: Tensor, seen: Tensor) -> Tensor:
    """Weigh the linear part and both kinds of members by proteins of cells that were kept from them, (1 + members,)."""
    n_cells, n_proteins = wanted.shape
    said, truth = [], []
    for first in range(0, len(seen), 2):
        out = torch.ones(n_cells, dtype=torch.bool)
        out[seen[first]] = False
        nothing = torch.zeros(int(out.sum()), n_proteins)
        linear, members = network.opinions(view[out][None], nothing[None], nothing[None])
        known = measured[out] > 0
        opinions = (linear[0], members[first], members[first + 1])
        said.append(torch.stack([opinion[:, :n_proteins][known] for opinion in opinions], dim=1))
        truth.append(wanted[out][known])
    weights = np.zeros(3)
    if any(len(each) for each in truth):
        weights, _ = nnls(torch.cat(said).double().numpy(), torch.cat(truth).double().numpy())
    weights = weights / weights.sum() if weights.sum() > 0 else np.array([0.0, 0.5, 0.5])
    of_kind = torch.tensor(weights[1:] * 2 / network.dims.n_members, dtype=torch.float32)
    return torch.cat([torch.tensor(weights[:1], dtype=torch.float32), of_kind.repeat(network.dims.n_members // 2)])
