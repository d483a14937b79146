"""Forward-only torch modules over a trained TotalANVI: what becomes the graphs of a bundle; here, but for a readout's.

They end at expectations of distributions: no ``torch.distributions``, no draws. Where randomness is wanted it enters as
an input that all cells share, so that a cell's result does not depend on its neighbours. Covariates other than the
batch are the reference's usual ones (see `totalanvi.training.network.covariates`), since queries do not tell theirs.
Submodules keep the names they have in training, and so do the weights in the exported files:
``encoder.rna_in.weight``, (hidden, genes).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from totalanvi.export.onnx import Graph
from totalanvi.export.readout_graphs import (
    ReadoutGraph,
    ReadoutLabelsGraph,
    ReadoutPanelGraph,
    ReadoutRestGraph,
    ReadoutRnaGraph,
)
from totalanvi.serving.bundles.graphs import CLASSIFIER, ENCODER, ENCODER_PANEL, ENCODER_REST, ENCODER_RNA, PROTEINS
from totalanvi.training.network.anvae import TotalANVAE
from totalanvi.training.network.inputs import EncoderInputs
from totalanvi.training.readout.network import ReadoutNetwork

__all__ = [
    "ClassifierGraph",
    "EncoderGraph",
    "EncoderPanelGraph",
    "EncoderRestGraph",
    "EncoderRnaGraph",
    "ProteinsGraph",
    "graphs_of",
]


class EncoderGraph(Graph):
    """Counts → posterior of z before the latent transformation, and its mean after it.

    Parameters
    ----------
    module
        The trained model.
    """

    signature = ENCODER
    rows = ("cells", "cells", "cells", "cells", "cells")

    def __init__(self, module: TotalANVAE):
        super().__init__()
        dims = module.dims
        self.widths = (dims.n_genes, 1, dims.n_proteins, dims.n_proteins, dims.n_batches)
        self.encoder = module.encoder
        self.usual_covariates = module.usual_covariates
        self.transform = module.transform

    def forward(
        self, rna: Tensor, library: Tensor, protein: Tensor, measured: Tensor, batch: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Map `totalanvi.serving.bundles.graphs.ENCODER` inputs to z_mean, z_scale, latent (cells, latent)."""
        z, _ = self.encoder(EncoderInputs(rna, library, protein, measured, self.usual_covariates(batch)))
        return z.mean, z.scale, self.transform(z.mean)


class EncoderRestGraph(EncoderGraph):
    """The encoder after its first layer's map of RNA, which serving computes from sparse rows.

    Parameters
    ----------
    module
        The trained model.
    """

    signature = ENCODER_REST

    def __init__(self, module: TotalANVAE):
        super().__init__(module)
        self.widths = (module.config.n_hidden, *self.widths[1:])

    def forward(
        self, from_rna: Tensor, library: Tensor, protein: Tensor, measured: Tensor, batch: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Map `totalanvi.serving.bundles.graphs.ENCODER_REST` inputs to z_mean, z_scale, latent (cells, latent)."""
        inputs = EncoderInputs(from_rna, library, protein, measured, self.usual_covariates(batch))
        z = self.encoder.after_rna(from_rna, inputs)
        return z.mean, z.scale, self.transform(z.mean)


class EncoderPanelGraph(Graph):
    """The same for labels alone, of cells that have one panel.

    Parameters
    ----------
    module
        The trained model.
    """

    signature = ENCODER_PANEL
    rows: tuple[str | int, ...] = ("cells", "cells", 1)

    def __init__(self, module: TotalANVAE):
        super().__init__()
        dims = module.dims
        self.widths = (module.config.n_hidden, dims.n_proteins, dims.n_proteins)
        self.encoder = module.encoder
        self.transform = module.transform
        self.covariates = module.usual_covariates(torch.zeros(1, dims.n_batches))

    def forward(self, from_rna: Tensor, protein: Tensor, panel: Tensor) -> Tensor:
        """Map `totalanvi.serving.bundles.graphs.ENCODER_PANEL` inputs to the latent, (cells, latent)."""
        return self.transform(self.encoder.after_rna_of_panel(from_rna, protein, panel, self.covariates))


class EncoderRnaGraph(EncoderPanelGraph):
    """And that of cells without proteins.

    Parameters
    ----------
    module
        The trained model.
    """

    signature = ENCODER_RNA
    rows = ("cells",)

    def __init__(self, module: TotalANVAE):
        super().__init__(module)
        self.nothing = torch.zeros(1, self.widths[-1])
        self.widths = self.widths[:1]

    def forward(self, from_rna: Tensor) -> Tensor:  # type: ignore[override]
        """Map the input of `totalanvi.serving.bundles.graphs.ENCODER_RNA` to the latent, (cells, latent)."""
        return super().forward(from_rna, self.nothing, self.nothing)


class ClassifierGraph(Graph):
    """Latent → logits of the labels.

    Parameters
    ----------
    module
        The trained model.
    """

    signature = CLASSIFIER
    rows = ("cells",)

    def __init__(self, module: TotalANVAE):
        super().__init__()
        self.widths = (module.config.n_latent,)
        self.classifier_trunk = module.classifier_trunk
        self.classifier = module.classifier

    def forward(self, latent: Tensor) -> Tensor:
        """Map (cells, latent) to logits (cells, labels)."""
        logits: Tensor = self.classifier(self.classifier_trunk(latent))
        return logits


class ProteinsGraph(Graph):
    """Posterior of z → what is expected of each protein, decoded as one batch.

    For each draw of z the expectation over the mixture and over the background β is taken in closed form,
    ``E[β] = exp(mean + scale² / 2)``; the outputs are averages of these over the draws.

    Parameters
    ----------
    module
        The trained model.
    """

    signature = PROTEINS
    rows = ("cells", "cells", "samples", 1)

    def __init__(self, module: TotalANVAE):
        super().__init__()
        n_latent = module.config.n_latent
        self.widths = (n_latent, n_latent, n_latent, module.dims.n_batches)
        self.protein_decoder = module.protein_decoder
        self.usual_covariates = module.usual_covariates
        self.log_per_batch_efficiency = module.log_per_batch_efficiency
        self.transform = module.transform

    def forward(self, z_mean: Tensor, z_scale: Tensor, noise: Tensor, batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map the inputs of `totalanvi.serving.bundles.graphs.PROTEINS` to its outputs, (cells, proteins)."""
        draws = z_mean + z_scale * noise.unsqueeze(1)
        n_samples, n_cells, _ = draws.shape
        # One flat row per draw and cell: the covariates beside them are a row each, too.
        latent = self.transform(draws.flatten(0, 1))
        parameters = self.protein_decoder(latent, self.usual_covariates(batch.expand(n_samples * n_cells, -1)))
        # Not a sigmoid: ONNX Runtime's is right to 1e-7 and no better where it is small itself, as the probability of a
        # foreground often is. That of the background may be a difference: where it is small, the foreground is not.
        is_foreground = 1 / (1 + torch.exp(parameters.background_logits))
        background = torch.exp(parameters.log_background)
        denoised = is_foreground * (1 + parameters.foreground_excess) * background
        efficiency = torch.exp(F.linear(batch, self.log_per_batch_efficiency))
        expected = efficiency * (denoised + (1 - is_foreground) * background)

        def average(values: Tensor) -> Tensor:
            return values.view(n_samples, n_cells, -1).mean(dim=0)

        return average(denoised), average(expected), average(is_foreground)


def graphs_of(module: TotalANVAE, readout: ReadoutNetwork | None = None) -> tuple[Graph, ...]:
    """Return the graphs of a bundle, complete and after first layers, in evaluation mode.

    Parameters
    ----------
    module
        The trained model; put into evaluation mode too.
    readout
        The network of its readout, if it has one.
    """
    module.eval()
    of_module = (EncoderGraph, ClassifierGraph, ProteinsGraph, EncoderRestGraph, EncoderPanelGraph, EncoderRnaGraph)
    of_readout = (ReadoutGraph, ReadoutRestGraph, ReadoutLabelsGraph, ReadoutPanelGraph, ReadoutRnaGraph)
    graphs: list[Graph] = [of(module) for of in of_module]
    if readout is not None:
        graphs += [of(readout) for of in of_readout]
    return tuple(graph.eval() for graph in graphs)
