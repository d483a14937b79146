"""What is exported: the model of a checkpoint, its names, and the cells that travel with it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from totalanvi.export.errors import SourceError
from totalanvi.training import TOTALANVI
from totalanvi.training.checkpoints.checkpoint import read_checkpoint
from totalanvi.training.checkpoints.reference_sample import ReferenceSample
from totalanvi.training.checkpoints.training_curves import History
from totalanvi.training.data import Cells
from totalanvi.training.network.anvae import TotalANVAE
from totalanvi.training.readout.readout import Readout
from totalanvi.training.registration.registry import Registry

__all__ = ["Source", "read_source"]

_PER_PROTEIN_ROWS = (
    "background_pro_alpha",
    "background_pro_log_beta",
    "log_per_batch_efficiency",
    "py_r",
    *(
        f"protein_decoder.{head}.{part}"
        for head in ("background_mean", "background_scale", "foreground_ratio", "background_logits")
        for part in ("weight", "bias")
    ),
)
_PER_PROTEIN_COLUMNS = ("encoder.trunk.linears.0.weight", "encoder.library.trunk.linears.0.weight")


@dataclass(frozen=True)
class Source:
    """A checkpoint that can be served.

    Parameters
    ----------
    module
        The trained model, in evaluation mode.
    registry
        Its names.
    sample
        Cells of its reference: landmarks (two or more), and held-out cells (none when training held none out).
    training
        What training says of itself: options, cells, digest of the data.
    versions
        Of the packages that trained it.
    readout
        What answers for labels and proteins in the place of q(c | z) and the decoder, where one was fitted.
    history
        How training went, for its report.
    """

    module: TotalANVAE
    registry: Registry
    sample: ReferenceSample
    training: dict[str, Any]
    versions: dict[str, str]
    readout: Readout | None = None
    history: History = field(default_factory=dict)


def read_source(checkpoint: Path) -> Source:
    """Read a checkpoint and make sure that it can be served.

    Parameters
    ----------
    checkpoint
        Folder that ``train`` wrote.

    Returns
    -------
    Source
        Without the proteins that no cell of the reference measured: nothing was learned of them.

    Raises
    ------
    SourceError
        When the model knows no labels or was not trained, or the checkpoint has no cells of its reference.
    CheckpointError
        When the checkpoint is not whole.
    """
    record = read_checkpoint(checkpoint)
    if record.kind != TOTALANVI.__name__:
        raise SourceError(
            f"{checkpoint}: expected a checkpoint of TOTALANVI, found one of {record.kind}, which has no labels to "
            "predict; make one with TOTALANVI.from_totalvi_model(...), train it and export that."
        )
    if not record.training:
        raise SourceError(f"{checkpoint}: expected a trained model, found one that is not; train it before saving.")
    if record.sample is None or len(record.sample.landmarks) < 2:
        n_cells = 0 if record.sample is None else len(record.sample.landmarks)
        raise SourceError(
            f"{checkpoint}: expected two cells or more of the reference in the checkpoint, found {n_cells}; export "
            "what was saved right after training, or import a model of scvi-tools with its data (--data)."
        )
    source = Source(
        module=TOTALANVI.load(checkpoint, adata=False, accelerator="cpu").module,
        registry=record.registry,
        sample=record.sample,
        training=record.training,
        versions=record.versions,
        readout=record.readout,
        history=record.history,
    )
    for option, what in (
        ("log_variational", "takes the logarithm of counts"),
        ("scale_inputs", "divides counts by a cell's mean"),
    ):
        if not getattr(source.module.config, option):
            raise SourceError(
                f"{checkpoint}: expected a model whose encoder {what}, as bundles promise, found one with "
                f"{option}=False; train one with the default."
            )
    measured = np.array(record.registry.batch_proteins, dtype=bool).any(axis=0)
    return source if measured.all() else _keep_proteins(source, np.flatnonzero(measured))


def _keep_proteins(source: Source, kept: npt.NDArray[np.intp]) -> Source:
    """Leave proteins out. Exact: what was measured nowhere is zero to the encoder, and its mean counts it as before."""
    old, n_proteins = source.module, source.module.dims.n_proteins
    module = TotalANVAE(dataclasses.replace(old.dims, n_proteins=len(kept)), old.config)
    module.encoder.proteins_in_mean = old.encoder.proteins_in_mean
    columns = np.concatenate([kept, n_proteins + kept, np.arange(2 * n_proteins, _encoder_width(old))])

    def part(name: str, weights: Tensor) -> Tensor:
        if name in _PER_PROTEIN_ROWS:
            return weights[torch.from_numpy(kept)]
        return weights[:, torch.from_numpy(columns)] if name in _PER_PROTEIN_COLUMNS else weights

    module.load_state_dict({name: part(name, weights) for name, weights in old.state_dict().items()})
    registry = source.registry
    return dataclasses.replace(
        source,
        module=module.eval(),
        registry=dataclasses.replace(
            registry,
            proteins=tuple(registry.proteins[i] for i in kept),
            batch_proteins=_columns(registry.batch_proteins, kept),
            panel_proteins=_columns(registry.panel_proteins, kept),
        ),
        sample=ReferenceSample(
            landmarks=_cells_with(source.sample.landmarks, kept), held_out=_cells_with(source.sample.held_out, kept)
        ),
        readout=None if source.readout is None else source.readout.keeping(kept),
    )


def _encoder_width(module: TotalANVAE) -> int:
    return int(module.state_dict()[_PER_PROTEIN_COLUMNS[0]].shape[1])


def _columns(rows: tuple[tuple[bool, ...], ...], kept: npt.NDArray[np.intp]) -> tuple[tuple[bool, ...], ...]:
    return tuple(tuple(row[i] for i in kept) for row in rows)


def _cells_with(cells: Cells, kept: npt.NDArray[np.intp]) -> Cells:
    return dataclasses.replace(cells, protein=cells.protein[:, kept], measured=cells.measured[:, kept])
