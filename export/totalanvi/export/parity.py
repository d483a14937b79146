"""Whether serving computes what torch computes.

Each output of each graph is held against the module that trained, through the sessions that serve; then what the engine
makes of them against the same, from counts to proteins. The two differ by rounding alone, or the export fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from totalanvi.export.parity_figures import ParityFigures
from totalanvi.export.probes import probe_cells
from totalanvi.export.readout_parity import added_up, readout_counts, readout_feed, readout_outputs
from totalanvi.export.reference_cells import aligned
from totalanvi.machine.cores import usable_cores
from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.graphs import (
    CLASSIFIER,
    ENCODER,
    ENCODER_PANEL,
    ENCODER_REST,
    ENCODER_RNA,
    PROTEINS,
    READOUT,
    READOUT_LABELS,
    READOUT_PANEL,
    READOUT_REST,
    READOUT_RNA,
    ROWS,
    GraphSignature,
)
from totalanvi.serving.bundles.manifest import Parity
from totalanvi.serving.bundles.modes import MODES, modes_of
from totalanvi.serving.engine.decodings import batch_weights
from totalanvi.serving.engine.engine import Engine
from totalanvi.serving.engine.feeds import Block, FirstLayersOnCores
from totalanvi.serving.engine.places import place
from totalanvi.serving.engine.sessions import open_sessions
from totalanvi.serving.mapped import Background, MapOptions
from totalanvi.training.data import Cells
from totalanvi.training.network.anvae import TotalANVAE
from totalanvi.training.network.inputs import EncoderInputs
from totalanvi.training.network.losses import Normal
from totalanvi.training.readout.readout import Readout

__all__ = ["check_parity"]

_N_SAMPLES = 7
_ENGINE, _AS_ON_A_DEVICE = "engine", "engine, complete graphs"


def check_parity(
    bundle: Bundle, module: TotalANVAE, reference: Cells, readout: Readout | None = None, seed: int = 0
) -> list[Parity]:
    """Compare a bundle, on the CPU, with the module it was exported from.

    Parameters
    ----------
    bundle
        With its graphs in place; its reference map is not looked at.
    module
        The trained model, in evaluation mode.
    reference
        Cells to draw fresh ones like; see `totalanvi.export.probes`.
    readout
        The one that was exported with it, if any was.
    seed
        Of these draws.

    Returns
    -------
    list of Parity
        The largest error of each output of each graph, then of the engine as a whole.

    Raises
    ------
    ParityError
        When one is larger than `TOLERANCE`; names all that are.
    """
    cells = probe_cells(reference, seed)
    with torch.inference_mode():
        # The engine refuses what is not finite with an error of its own; a graph at fault is to be named first.
        return [
            *_check_graphs(bundle, module, readout, cells, seed),
            *_check_first_layers(bundle, module, readout, cells),
            *_check_engine(bundle, module, readout, cells),
        ]


def _check_graphs(bundle: Bundle, module: TotalANVAE, readout: Readout | None, cells: Cells, seed: int) -> list[Parity]:
    """Feed each graph what the module is fed, so that errors of one do not add to those of the next."""
    sessions, _ = open_sessions(bundle, "cpu", usable_cores())
    figures = ParityFigures()

    def compare(graph: GraphSignature, feed: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
        arrays = {name: np.ascontiguousarray(value.numpy()) for name, value in feed.items()}
        found = sessions[graph.file].run(list(graph.outputs), arrays)
        figures.add(graph.file.removesuffix(".onnx"), dict(zip(graph.outputs, found, strict=True)), expected)

    known = _inputs(module, cells)
    rna = torch.from_numpy(cells.rna.toarray())
    places, counts = map(torch.from_numpy, place(cells.rna, slice(0, len(cells))))
    compare(ROWS, {"places": places, "counts": counts, "library": known.library}, {"rna": rna})
    for batch in (known.covariates.batch, torch.zeros_like(known.covariates.batch)):
        inputs = replace(known, covariates=module.usual_covariates(batch))
        z, _ = module.encode(inputs)
        feed = {
            "rna": rna,
            "library": inputs.library,
            "protein": inputs.protein,
            "measured": inputs.measured,
            "batch": batch,
        }
        latent = module.transform(z.mean)
        compare(ENCODER, feed, {"z_mean": z.mean, "z_scale": z.scale, "latent": latent})
        compare(CLASSIFIER, {"latent": latent}, {"logits": module.classify(latent)})
        draws = torch.randn(_N_SAMPLES, z.mean.shape[1], generator=torch.Generator().manual_seed(seed))
        for noise in (draws, torch.zeros(1, z.mean.shape[1])):
            for one in torch.eye(module.dims.n_batches).unsqueeze(1):
                feed = {"z_mean": z.mean, "z_scale": z.scale, "noise": noise, "batch": one}
                compare(PROTEINS, feed, _decode(module, **feed))
    if readout is not None:
        feed = readout_feed(cells, readout.network)
        compare(READOUT, feed, readout_outputs(readout, feed))
    return figures.within_tolerance()


def _check_first_layers(bundle: Bundle, module: TotalANVAE, readout: Readout | None, cells: Cells) -> list[Parity]:
    """Compute first layers from sparse rows, and what comes after them, for cells whose batch is unknown."""
    figures, first_layers = ParityFigures(), FirstLayersOnCores(bundle)
    sessions, _ = open_sessions(bundle, "cpu", usable_cores(), after_first_layers=True)
    without_proteins = replace(cells, protein=np.zeros_like(cells.protein), measured=np.zeros_like(cells.measured))
    everyone = [np.arange(len(cells))]
    of_panels = [np.flatnonzero((cells.measured == panel).all(axis=1)) for panel in np.unique(cells.measured, axis=0)]
    for some, (encoder, of_readout, *others), groups in (
        (cells, (ENCODER_REST, READOUT_REST, READOUT_LABELS), everyone),
        (cells, (ENCODER_PANEL, READOUT_PANEL), of_panels),
        (without_proteins, (ENCODER_RNA, READOUT_RNA), everyone),
    ):
        query, expected = aligned(some), _after_first_layers(module, readout, some)
        graphs = [graph for graph in (encoder, of_readout, *others) if graph.file in sessions]
        found = {
            (graph, name): np.empty(expected[name].shape, dtype=np.float32)
            for graph in graphs
            for name in graph.outputs
        }
        for rows in groups:
            feeds = first_layers.feeds(query.rows(rows), (encoder, of_readout))
            feed = feeds.feed(Block(slice(0, len(rows)), len(rows)))
            for graph in graphs:
                arrays = sessions[graph.file].run(list(graph.outputs), {name: feed[name] for name in graph.inputs})
                for name, array in zip(graph.outputs, arrays, strict=True):
                    found[graph, name][rows] = array
        for graph in graphs:
            outputs = {name: found[graph, name] for name in graph.outputs}
            figures.add(graph.file.removesuffix(".onnx"), outputs, {name: expected[name] for name in outputs})
    return figures.within_tolerance()


def _after_first_layers(module: TotalANVAE, readout: Readout | None, cells: Cells) -> dict[str, Tensor]:
    """Ask torch for what graphs of encoder and readout say of cells whose batch is unknown, by name."""
    inputs = _inputs(module, cells)
    unknown = module.usual_covariates(torch.zeros_like(inputs.covariates.batch))
    z, _ = module.encode(replace(inputs, covariates=unknown))
    expected = {"z_mean": z.mean, "z_scale": z.scale, "latent": module.transform(z.mean)}
    return expected if readout is None else expected | readout_outputs(readout, readout_feed(cells, readout.network))


def _check_engine(bundle: Bundle, module: TotalANVAE, readout: Readout | None, cells: Cells) -> list[Parity]:
    """Map the cells as a query, whose batch is unknown, and compare what comes out at the other end."""
    query = aligned(cells)
    # As cores compute, and the way of a device, whose graphs without weights have no other check.
    engines = {_ENGINE: Engine(bundle, "cpu"), _AS_ON_A_DEVICE: Engine(bundle, "cpu", complete_graphs=True)}
    inputs = _inputs(module, cells)
    unknown = torch.zeros_like(inputs.covariates.batch)
    z, _ = module.encode(replace(inputs, covariates=module.usual_covariates(unknown)))
    latent = module.transform(z.mean)
    temperature = {mode: figures.temperature for mode, figures in bundle.manifest.calibration.items()}
    modes = modes_of(query.measured, bundle.manifest.protein_batches)
    divisor = torch.tensor([temperature[MODES[mode]] for mode in modes])
    said = None if readout is None else readout_outputs(readout, readout_feed(cells, readout.network))
    logits = module.classify(latent) if said is None else said["log_probabilities"]
    expected = {"latent": latent, "probabilities": (logits / divisor.unsqueeze(1)).softmax(dim=-1)}
    weights = batch_weights(bundle.manifest, None)
    counts = _average(module, z, weights)
    arrays = bundle.readout
    if readout is not None and said is not None and arrays is not None:
        measured = torch.from_numpy(query.measured)
        counts = readout_counts(readout, arrays, said["standardised"], counts, measured, weights)
    figures = ParityFigures()
    outputs: dict[Background, str] = {"exclude": "denoised", "include": "expected"}
    for (name, engine), (background, output) in product(engines.items(), outputs.items()):
        mapped = engine.run(query, MapOptions(samples=1, background=background)).arrays()
        found, wanted = mapped["protein"], counts[output]
        if readout is not None:  # it answers in logs, and so far is its rounding relative
            found, wanted = np.log1p(found), wanted.log1p()
        torch_made = {**expected, "protein": wanted}
        figures.add(name, {output: mapped[output] for output in expected} | {"protein": found}, torch_made)
    return figures.within_tolerance()


def _inputs(module: TotalANVAE, cells: Cells) -> EncoderInputs:
    return replace(EncoderInputs.of(cells.to_batch(), module.dims), library=added_up(cells))


def _average(module: TotalANVAE, z: Normal, weights: npt.NDArray[np.floating]) -> dict[str, Tensor]:
    """Decode the posterior mean as each batch, and average, (cells, proteins) an output."""
    totals = dict.fromkeys(PROTEINS.outputs, torch.zeros(()))
    no_noise = torch.zeros(1, z.mean.shape[1])
    for weight, batch in zip(weights, torch.eye(len(weights)).unsqueeze(1), strict=True):
        decoded = _decode(module, z.mean, z.scale, no_noise, batch)
        share = torch.as_tensor(weight, dtype=torch.float32)
        totals = {name: total + decoded[name] * share for name, total in totals.items()}
    return totals


def _decode(module: TotalANVAE, z_mean: Tensor, z_scale: Tensor, noise: Tensor, batch: Tensor) -> dict[str, Tensor]:
    """Average draw by draw, through the module that trained, (cells, proteins)."""
    batch = batch.expand(len(z_mean), -1)
    totals = dict.fromkeys(PROTEINS.outputs, torch.zeros(()))
    for draw in noise:
        parameters = module.decode_proteins(module.transform(z_mean + z_scale * draw), module.usual_covariates(batch))
        values = (
            parameters.denoised(),
            parameters.expected(module.log_efficiency(batch)),
            parameters.foreground_probability,
        )
        totals = {name: total + value for (name, total), value in zip(totals.items(), values, strict=True)}
    return {name: total / len(noise) for name, total in totals.items()}
