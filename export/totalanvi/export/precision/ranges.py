"""How far numbers reach that are multiplied by weights: what has to be known of them to make whole numbers of them.

Reference cells pass as queries of each mode, and as one that lacks genes. They are landmarks: held-out cells are to say
what precision costs, and would say too little if ranges were made to fit them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper

from totalanvi.export.ablation import without_genes
from totalanvi.export.precision.products import products_of
from totalanvi.export.query_modes import in_mode
from totalanvi.export.reference_cells import aligned, gene_share
from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.manifest import (
    CLASSIFIER,
    ENCODER,
    ENCODER_REST,
    PROTEINS,
    READOUT,
    READOUT_LABELS,
    READOUT_REST,
    GraphSignature,
)
from totalanvi.serving.bundles.modes import MODES
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.engine.feeds import SparseFeeds, blocks_of
from totalanvi.serving.engine.missing_genes import MissingGenes
from totalanvi.serving.engine.sparse_rows import SparseLayer
from totalanvi.training.data import Cells

__all__ = ["Ranges", "ranges_of"]

Floats = npt.NDArray[np.float32]
Feed = Mapping[str, Floats]
Ranges = Mapping[str, tuple[float, float]]
"""Least and largest number, by the name of what is multiplied; 0 is always between them."""

_N_DRAWS = 4
"""Of z, from the posterior of each cell."""


def ranges_of(bundle: Bundle, landmarks: Cells) -> dict[str, Ranges]:
    """Pass reference cells through a bundle's graphs.

    Parameters
    ----------
    bundle
        In float32, with its graphs in place.
    landmarks
        Of the reference.

    Returns
    -------
    dict
        By the graph's file. Complete graphs and those for labels have the ranges of `ENCODER_REST` and `READOUT_REST`,
        with which they share their products, so that all of them give a cell the same. There are none of graphs for
        one panel, which take these products apart.
    """
    encoder, classifier, proteins = (_Watched(bundle, graph) for graph in (ENCODER_REST, CLASSIFIER, PROTEINS))
    readout = None if bundle.readout is None else _Watched(bundle, READOUT_REST)
    n_batches, rng = len(bundle.manifest.batches), np.random.default_rng(0)
    for feed in _feeds(bundle, landmarks):
        z_mean, z_scale, latent = encoder.run(feed)
        classifier.run({"latent": latent})
        noise = rng.standard_normal((_N_DRAWS, z_mean.shape[1])).astype(np.float32)
        for batch in np.eye(n_batches, dtype=np.float32)[:, None]:
            proteins.run({"z_mean": z_mean, "z_scale": z_scale, "noise": noise, "batch": batch})
        if readout is not None:
            readout.run(feed)
    found: dict[str, Ranges] = dict.fromkeys((ENCODER.file, ENCODER_REST.file), encoder.ranges)
    found |= {CLASSIFIER.file: classifier.ranges, PROTEINS.file: proteins.ranges}
    if readout is not None:
        found |= dict.fromkeys((READOUT.file, READOUT_REST.file, READOUT_LABELS.file), readout.ranges)
    return found


class _Watched:
    """A graph of a bundle that also gives what is multiplied in it."""

    def __init__(self, bundle: Bundle, graph: GraphSignature) -> None:
        self._graph = graph
        model = onnx.load_model_from_string(bundle.read(graph.file))
        self.ranges = {product.left: (0.0, 0.0) for product in products_of(model)}
        self._watched = [name for name in self.ranges if name not in graph.inputs]
        watched = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in self._watched]
        model.graph.output.extend(watched)
        self._session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def run(self, feed: Feed) -> list[Floats]:
        """Return the graph's outputs."""
        given = {name: feed[name] for name in self._graph.inputs}
        found: list[Floats] = self._session.run([*self._graph.outputs, *self._watched], given)
        n_outputs = len(self._graph.outputs)
        for name, values in (given | dict(zip(self._watched, found[n_outputs:], strict=True))).items():
            if name in self.ranges:
                low, high = self.ranges[name]
                self.ranges[name] = min(low, float(values.min())), max(high, float(values.max()))
        return found[:n_outputs]


def _feeds(bundle: Bundle, landmarks: Cells) -> Iterator[Feed]:
    """Yield what encoder and readout are fed with after their first layers."""
    first, n_batches = bundle.first_layers, len(bundle.manifest.batches)
    layers = SparseLayer(first.encoder), None if first.readout is None else SparseLayer(first.readout)
    genes = None
    if first.readout is not None and bundle.readout is not None:
        genes = MissingGenes(first.readout, bundle.readout)
    for query in _queries(bundle, landmarks):
        fill = None if genes is None else genes.fill(query.present)
        feeds = SparseFeeds(query, n_batches, *layers, (ENCODER_REST, READOUT_REST), fill)
        for block in blocks_of(len(query)):
            yield feeds.feed(block)


def _queries(bundle: Bundle, landmarks: Cells) -> Iterator[AlignedCells]:
    for mode in MODES:
        yield in_mode(landmarks, mode, bundle.manifest.protein_batches)[1]
    rna = aligned(landmarks, with_proteins=False)
    yield without_genes(rna, np.arange(rna.n_genes) % 2 == 0, gene_share(landmarks))
