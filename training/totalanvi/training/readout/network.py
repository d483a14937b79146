"""The readout's network: a small ensemble beside z, that answers for labels and proteins whatever was measured."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from totalanvi.training.readout.normalised import LIBRARY

__all__ = ["ReadoutDimensions", "ReadoutNetwork"]

_DROPOUT = 0.2
LINEAR_SHARE = 1 / 3
"""Of the linear model in the probabilities of labels: what it is not sure of, no member makes certain."""

_MOST_SPREADS = 8.0
"""That a protein is predicted to lie from its average: beyond, a strange cell would have counts without bounds."""


class ReadoutDimensions(NamedTuple):
    """Sizes of a `ReadoutNetwork`."""

    n_genes: int
    n_proteins: int
    n_labels: int
    n_components: int
    n_members: int = 6
    n_hidden: int = 96


class _Input(NamedTuple):
    """What members see, x."""

    of_cell: Tensor
    """(members or 1, cells, width)."""
    of_all: Tensor | None
    """What follows it, where all cells share that, (members or 1, 1, rest of the width)."""

    def through(self, weights: Tensor, offset: Tensor | None = None) -> Tensor:
        """``x @ weights + offset``, where the latter is the same for all cells; what they share is looked at once."""
        if self.of_all is None:
            return self.of_cell @ weights if offset is None else self.of_cell @ weights + offset
        n = self.of_cell.shape[-1]
        of_all = self.of_all @ weights[..., n:, :]
        return self.of_cell @ weights[..., :n, :] + (of_all if offset is None else of_all + offset)


class ReadoutNetwork(nn.Module):
    """Linear regressions of log-normalised RNA, then what an ensemble of small networks adds to them.

    With V the principal components of a cell's RNA, R the regressions of its proteins, D those of its labels, S its
    standardised proteins and m which of them were measured, member e of the ensemble says

    ::

        x = [V, R, D, m S, m]
        proteins_e = R + W_e x + f_e(x)
        logits_e   = A [m S + (1 - m) R, D] + b + W'_e x + f'_e(x)

    where f has two hidden layers. Labels have a mixture of the members' probabilities and of those of the linear part,
    A [...] + b, which has the weight of a third. Proteins have a mean of R and the members' proteins, weighted by what
    each is worth on cells that it has not seen. A protein that was not measured is unknown to it, not zero.

    Parameters
    ----------
    dims
        Its sizes.

    References
    ----------
    Lakshminarayanan, Pritzel, Blundell: Simple and scalable predictive uncertainty estimation using deep ensembles.
    NeurIPS 2017.
    """

    projection: Tensor
    projection_centre: Tensor
    projection_offset: Tensor
    logit_spread: Tensor
    protein_centre: Tensor
    protein_spread: Tensor
    panel_weights: Tensor
    panel_offset: Tensor
    protein_shares: Tensor

    def __init__(self, dims: ReadoutDimensions):
        super().__init__()
        self.dims = dims
        n_proteins, n_labels = dims.n_proteins, dims.n_labels
        n_columns = dims.n_components + n_proteins + n_labels
        # What is fitted before, and does not train.
        for name, shape in {
            "projection": (dims.n_genes, n_columns),
            "projection_centre": (dims.n_genes,),
            "projection_offset": (n_columns,),
            "logit_spread": (),
            "protein_centre": (n_proteins,),
            "protein_spread": (n_proteins,),
            "panel_weights": (n_proteins + n_labels, n_labels),
            "panel_offset": (n_labels,),
            "protein_shares": (1 + dims.n_members,),
        }.items():
            self.register_buffer(name, torch.ones(shape))
        n_in, n_out = n_columns + 2 * n_proteins, n_proteins + n_labels
        self.first = _weights(dims.n_members, n_in, dims.n_hidden)
        self.second = _weights(dims.n_members, dims.n_hidden, dims.n_hidden)
        self.last = _weights(dims.n_members, dims.n_hidden, n_out, scale=0.1)
        self.past = _weights(dims.n_members, n_in, n_out, scale=0.0)
        self.biases = nn.ParameterList(
            nn.Parameter(torch.zeros(dims.n_members, 1, width)) for width in (dims.n_hidden, dims.n_hidden, n_out)
        )

    def project(self, rna: Tensor, library: Tensor, present: Tensor, fill: Tensor) -> Tensor:
        """Log-normalise counts and project them.

        Parameters
        ----------
        rna
            Counts, (cells, genes).
        library
            Their totals, (cells, 1).
        present
            1 for genes that were measured, 0 for others, (1, genes). A gene that was not counts as average, and
        fill
            as what the components say beyond that, (components, columns): all zero where there are all genes.

        Returns
        -------
        Tensor
            (cells, components + proteins + labels).
        """
        normalised = torch.log1p(rna * (LIBRARY / library.clamp(min=1.0)))
        # Centred first: two large products that cancel would leave their rounding.
        projected = (normalised - present * self.projection_centre) @ self.projection + self.projection_offset
        return projected + projected[:, : self.dims.n_components] @ fill

    def standardise(self, protein: Tensor) -> Tensor:
        """Put protein counts, (cells, proteins), on the scale of all batches."""
        return (torch.log1p(protein) - self.protein_centre) / self.protein_spread

    def opinions(self, projected: Tensor, protein: Tensor, measured: Tensor) -> tuple[Tensor, Tensor]:
        """Ask the linear part, then each member.

        Parameters
        ----------
        projected
            What `project` gives, (members or 1, cells, columns).
        protein
            Standardised, (members or 1, cells, proteins).
        measured
            1 for proteins that were measured, else 0, (members or 1, cells, proteins).

        Returns
        -------
        linear
            Its standardised proteins, then its logits, (members or 1, cells, proteins + labels).
        members
            The same of each member, (members, cells, proteins + labels).
        """
        linear, x, hidden = self._inside(projected, protein, measured)
        return linear, linear + x.through(self.past) + hidden @ self.last + self.biases[2]

    def answer(self, projected: Tensor, protein: Tensor, measured: Tensor) -> tuple[Tensor, Tensor]:
        """Pool what `opinions` has to say of cells, which are given as there, without a dimension of members.

        Returns
        -------
        log_probabilities, proteins
            (cells, labels), and standardised, (cells, proteins).
        """
        inside = self._inside(projected[None], protein[None], measured[None])
        return self._labels(*inside), self._proteins(*inside)

    def _labels(self, linear: Tensor, x: _Input, hidden: Tensor) -> Tensor:
        """Pool log probabilities: they are a mixture, and each member has to be asked."""
        of_label = slice(self.dims.n_proteins, None)
        # All members' in one product: narrow ones take half as long again.
        past = x.through(self.past[..., of_label].permute(1, 0, 2).flatten(1))
        past = past.reshape(-1, self.dims.n_members, self.dims.n_labels).permute(1, 0, 2)
        logits = linear[..., of_label] + past + hidden @ self.last[..., of_label]
        logits = torch.cat([linear[..., of_label], logits + self.biases[2][..., of_label]])
        member_share = (1 - LINEAR_SHARE) / self.dims.n_members
        shares = torch.full((1 + self.dims.n_members, 1, 1), member_share)
        shares[0] = LINEAR_SHARE
        return torch.logsumexp(F.log_softmax(logits, dim=-1) + shares.log(), dim=0)

    def _proteins(self, linear: Tensor, x: _Input, hidden: Tensor) -> Tensor:
        """Pool proteins: they are linear in the members, whose last layers are one then."""
        of_protein = slice(self.dims.n_proteins)
        weights = self.protein_shares[1:, None, None]
        last, past, bias = (weights * each[..., of_protein] for each in (self.last, self.past, self.biases[2]))
        proteins = (
            self.protein_shares.sum() * linear[0, :, of_protein] + x.through(past.sum(dim=0))[0] + bias.sum(dim=0)
        )
        return proteins + hidden.permute(1, 0, 2).flatten(1) @ last.flatten(0, 1)

    def _inside(self, projected: Tensor, protein: Tensor, measured: Tensor) -> tuple[Tensor, _Input, Tensor]:
        """Return the linear part, x, and the members' last hidden layers; shapes as of `opinions`."""
        components, of_protein, of_label = torch.split(projected, self._widths, dim=-1)
        of_label = of_label / self.logit_spread
        shown = protein * measured
        filled = torch.cat([shown + (1 - measured) * of_protein, of_label], dim=-1)
        linear = torch.cat([of_protein, filled @ self.panel_weights + self.panel_offset], dim=-1)
        of_cell, of_all = [components, of_protein, of_label], list[Tensor]()
        for part in (shown, measured):
            (of_all if part.shape[-2] == 1 else of_cell).append(part)
        x = _Input(torch.cat(of_cell, dim=-1), torch.cat(of_all, dim=-1) if of_all else None)
        hidden = F.dropout(F.silu(x.through(self.first, self.biases[0])), _DROPOUT, self.training)
        hidden = F.dropout(F.silu(hidden @ self.second + self.biases[1]), _DROPOUT, self.training)
        return linear, x, hidden

    def forward(
        self, rna: Tensor, library: Tensor, protein: Tensor, measured: Tensor, present: Tensor, fill: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Read out cells.

        Parameters
        ----------
        rna, library, present, fill
            As `project` takes them.
        protein, measured
            Counts, and 1 where they were measured, (cells, proteins).

        Returns
        -------
        log_probabilities
            Of the labels, (cells, labels).
        proteins
            Log counts, standardised within a batch, (cells, proteins).
        components
            Principal components of the RNA, (cells, components).
        evidence
            The largest logit of the labels' regression from RNA, (cells, 1): small where RNA speaks for no label.
        """
        return self.read(self.project(rna, library, present, fill), protein, measured)

    def read(self, projected: Tensor, protein: Tensor, measured: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Read out cells whose RNA is projected already.

        Parameters
        ----------
        projected
            What `project` gives, (cells, columns).
        protein, measured
            As `forward` takes them, and it returns the same.
        """
        log_probabilities, proteins = self.answer(projected, self.standardise(protein), measured)
        proteins = proteins.clamp(-_MOST_SPREADS, _MOST_SPREADS)
        return log_probabilities, proteins, *self._seen(projected)

    def read_labels(self, projected: Tensor, protein: Tensor, measured: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what `read` does but the proteins, which take a fifth of its time.

        Where all cells have one panel, ``measured`` may be (1, proteins), and where they have no proteins, ``protein``.
        """
        inside = self._inside(projected[None], self.standardise(protein)[None], measured[None])
        return self._labels(*inside), *self._seen(projected)

    def _seen(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        """Return components and evidence."""
        components, _, of_label = torch.split(projected, self._widths, dim=-1)
        return components, of_label.amax(dim=-1, keepdim=True)

    @property
    def every_gene(self) -> tuple[Tensor, Tensor]:
        """What ``present`` and ``fill`` are where all genes were measured."""
        return torch.ones(1, self.dims.n_genes), torch.zeros(self.dims.n_components, self.projection.shape[1])

    @property
    def _widths(self) -> list[int]:
        return [self.dims.n_components, self.dims.n_proteins, self.dims.n_labels]


def _weights(n_members: int, n_in: int, n_out: int, scale: float = 1.0) -> nn.Parameter:
    return nn.Parameter(torch.randn(n_members, n_in, n_out) * (scale / n_in**0.5))
