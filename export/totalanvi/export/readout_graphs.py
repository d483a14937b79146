"""Forward-only torch modules over a fitted readout: what becomes its graphs in a bundle.

For the model that it belongs to, see `totalanvi.export.graphs`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from totalanvi.export.onnx import Graph
from totalanvi.serving.bundles.graphs import READOUT, READOUT_LABELS, READOUT_PANEL, READOUT_REST, READOUT_RNA
from totalanvi.training.readout.network import ReadoutNetwork

__all__ = ["ReadoutGraph", "ReadoutLabelsGraph", "ReadoutPanelGraph", "ReadoutRestGraph", "ReadoutRnaGraph"]


class ReadoutGraph(Graph):
    """Counts → what the readout says of labels and proteins.

    Parameters
    ----------
    network
        The fitted one.
    """

    signature = READOUT

    def __init__(self, network: ReadoutNetwork):
        super().__init__()
        dims = network.dims
        self.rows = ("cells", "cells", "cells", "cells", 1, dims.n_components)
        self.widths = (dims.n_genes, 1, dims.n_proteins, dims.n_proteins, dims.n_genes, network.projection.shape[1])
        self.network = network

    def forward(
        self, rna: Tensor, library: Tensor, protein: Tensor, measured: Tensor, present: Tensor, fill: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Map the inputs of `totalanvi.serving.bundles.graphs.READOUT` to its outputs."""
        answers: tuple[Tensor, Tensor, Tensor, Tensor] = self.network(rna, library, protein, measured, present, fill)
        return answers


class ReadoutRestGraph(Graph):
    """The readout after its projection, which serving computes from sparse rows.

    Parameters
    ----------
    network
        The fitted one.
    """

    signature = READOUT_REST
    rows: tuple[str | int, ...] = ("cells", "cells", "cells")

    def __init__(self, network: ReadoutNetwork):
        super().__init__()
        n_proteins = network.dims.n_proteins
        self.widths = (network.projection.shape[1], n_proteins, n_proteins)
        self.network = network

    def forward(self, projected: Tensor, protein: Tensor, measured: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Map the inputs of `totalanvi.serving.bundles.graphs.READOUT_REST` to its outputs."""
        answers: tuple[Tensor, Tensor, Tensor, Tensor] = self.network.read(projected, protein, measured)
        return answers


class ReadoutLabelsGraph(ReadoutRestGraph):
    """The same without proteins.

    Parameters
    ----------
    network
        The fitted one.
    """

    signature = READOUT_LABELS

    def forward(self, projected: Tensor, protein: Tensor, measured: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        """Map the inputs of `totalanvi.serving.bundles.graphs.READOUT_LABELS` to its outputs."""
        answers: tuple[Tensor, Tensor, Tensor] = self.network.read_labels(projected, protein, measured)
        return answers


class ReadoutPanelGraph(ReadoutLabelsGraph):
    """And that for cells that have one panel.

    Parameters
    ----------
    network
        The fitted one.
    """

    signature = READOUT_PANEL
    rows: tuple[str | int, ...] = ("cells", "cells", 1)

    def forward(self, projected: Tensor, protein: Tensor, panel: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        """Map the inputs of `totalanvi.serving.bundles.graphs.READOUT_PANEL` to its outputs."""
        answers: tuple[Tensor, Tensor, Tensor] = self.network.read_labels(projected, protein, panel)
        return answers


class ReadoutRnaGraph(ReadoutPanelGraph):
    """And that for cells without proteins.

    Parameters
    ----------
    network
        The fitted one.
    """

    signature = READOUT_RNA
    rows = ("cells",)

    def __init__(self, network: ReadoutNetwork):
        super().__init__(network)
        self.nothing = torch.zeros(1, network.dims.n_proteins)
        self.widths = self.widths[:1]

    def forward(self, projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        """Map the input of `totalanvi.serving.bundles.graphs.READOUT_RNA` to its outputs."""
        return super().forward(projected, self.nothing, self.nothing)
