"""In which steps numbers are counted that are to be whole ones: fixed, so that no cell feels its neighbours.

What is multiplied reaches as far as it does in reference cells, which pass as queries of each mode, and as one that
lacks genes. They are landmarks: held-out cells are to say what precision costs, and would say too little if steps were
made to fit them. Weights have steps of their own in each column.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import ModelProto, TensorProto, helper

from totalanvi.export.ablation import without_genes
from totalanvi.export.errors import GraphError
from totalanvi.export.precision.products import multiplied_weights, products_of
from totalanvi.export.query_modes import in_mode
from totalanvi.export.reference_cells import aligned, gene_share
from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.graphs import CLASSIFIER, ENCODER_REST, PROTEINS, READOUT_REST, GraphSignature
from totalanvi.serving.bundles.modes import MODES
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.engine.feeds import FirstLayersOnCores, blocks_of
from totalanvi.training.data import Cells

__all__ = ["Steps", "last_products", "steps_of"]

Floats = npt.NDArray[np.float32]
Feed = Mapping[str, Floats]

_N_DRAWS = 4
"""Of z, from the posterior of each cell."""

_FEWEST = 64
"""Inputs, and outputs, of a product: smaller ones take as long in whole numbers, or hardly less."""

_EXACT = ("standardised",)
"""Outputs whose last products stay in float32. A readout's proteins are logarithms: whole numbers there changed counts
by ten times as much as all others together."""

_LEVELS = 255
"""Steps of what is multiplied."""

_WEIGHT_LEVELS = 64
"""Steps of a weight on either side of 0. The sum of two products then fits 16 bits, as far as processors without VNNI
count before they go on in 32, so that all of them give the same."""


@dataclass(frozen=True, eq=False)
class Steps:
    """Of one product.

    Parameters
    ----------
    lowest, highest
        How far what is multiplied reaches; 0 lies between them.
    columns
        Steps of the weights, (..., 1, columns).
    """

    lowest: float
    highest: float
    columns: Floats

    @property
    def step(self) -> float:
        """Of what is multiplied."""
        return max(self.highest - self.lowest, 1e-6) / _LEVELS

    @property
    def zero(self) -> int:
        """Which of the steps 0 is: exactly one."""
        return round(-self.lowest / self.step)


def steps_of(bundle: Bundle, landmarks: Cells) -> dict[frozenset[str], Steps]:
    """Pass reference cells through a bundle's graphs, and choose the products that are to be of whole numbers.

    Parameters
    ----------
    bundle
        In float32, with its graphs in place.
    landmarks
        Of the reference.

    Returns
    -------
    dict
        By the product's weights. Graphs that are not passed through have the same products, whole or in parts.
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
    found: dict[frozenset[str], Steps] = {}
    for watched in (encoder, classifier, proteins, *([] if readout is None else [readout])):
        found |= watched.steps()
    return found


def last_products(model: ModelProto) -> set[str]:
    """Return the outputs of the products that `_EXACT` outputs are made of without another product between."""
    products = {product.output for product in products_of(model)}
    needed, found = {output.name for output in model.graph.output if output.name in _EXACT}, set()
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            if node.output[0] in products:
                found.add(str(node.output[0]))
            else:
                needed.update(node.input)
    return found


class _Watched:
    """A graph of a bundle that also gives what is multiplied in it."""

    def __init__(self, bundle: Bundle, graph: GraphSignature) -> None:
        self._graph = graph
        model = onnx.load_model_from_string(bundle.read(graph.file))
        exact = last_products(model)
        candidates = [product for product in products_of(model) if product.output not in exact]
        weights = multiplied_weights(model, candidates)
        self._weights = {each.output: weights[each.output] for each in candidates if _is_large(weights[each.output])}
        self._products = [each for each in candidates if each.output in self._weights]
        self._range = {product.left: (0.0, 0.0) for product in self._products}
        self._watched = [name for name in self._range if name not in graph.inputs]
        watched = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in self._watched]
        model.graph.output.extend(watched)
        self._session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def run(self, feed: Feed) -> list[Floats]:
        """Return the graph's outputs."""
        given = {name: feed[name] for name in self._graph.inputs}
        found: list[Floats] = self._session.run([*self._graph.outputs, *self._watched], given)
        n_outputs = len(self._graph.outputs)
        for name, values in (given | dict(zip(self._watched, found[n_outputs:], strict=True))).items():
            if name in self._range:
                low, high = self._range[name]
                self._range[name] = min(low, float(values.min())), max(high, float(values.max()))
        return found[:n_outputs]

    def steps(self) -> dict[frozenset[str], Steps]:
        """Return those of each product.

        Raises
        ------
        GraphError
            When two products have the same weights: in another graph, nobody could tell which is which.
        """
        found = {
            product.weights: Steps(*self._range[product.left], _columns(self._weights[product.output]))
            for product in self._products
        }
        if len(found) < len(self._products):
            raise GraphError(
                f"{self._graph.file}: expected products with weights of their own, found some that share theirs; this "
                "is a bug: please report it."
            )
        return found


def _columns(weights: Floats) -> Floats:
    largest: Floats = np.abs(weights).max(axis=-2, keepdims=True)
    steps: Floats = np.maximum(largest / np.float32(_WEIGHT_LEVELS), np.float32(1e-12))
    return steps


def _is_large(weights: Floats) -> bool:
    return all(size >= _FEWEST for size in weights.shape[-2:])


def _feeds(bundle: Bundle, landmarks: Cells) -> Iterator[Feed]:
    """Yield what encoder and readout are fed with after their first layers."""
    first_layers = FirstLayersOnCores(bundle)
    for query in _queries(bundle, landmarks):
        feeds = first_layers.feeds(query, (ENCODER_REST, READOUT_REST))
        for block in blocks_of(len(query)):
            yield feeds.feed(block)


def _queries(bundle: Bundle, landmarks: Cells) -> Iterator[AlignedCells]:
    for mode in MODES:
        yield in_mode(landmarks, mode, bundle.manifest.protein_batches)[1]
    rna = aligned(landmarks, with_proteins=False)
    yield without_genes(rna, np.arange(rna.n_genes) % 2 == 0, gene_share(landmarks))
