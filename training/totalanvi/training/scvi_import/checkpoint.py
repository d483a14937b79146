"""A saved model of scvi-tools as our checkpoint, and as our model."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from anndata import AnnData
from mudata import MuData

from totalanvi.training.checkpoints.checkpoint import Checkpoint, package_versions, write_checkpoint
from totalanvi.training.checkpoints.reference_sample import sample_reference
from totalanvi.training.checks import as_path
from totalanvi.training.data import UNLABELLED
from totalanvi.training.errors import CheckpointError
from totalanvi.training.models.totalanvi import TOTALANVI
from totalanvi.training.models.totalvi import TOTALVI
from totalanvi.training.models.trainable import data_digest
from totalanvi.training.network.anvae import TotalANVAE
from totalanvi.training.network.config import ModelConfig
from totalanvi.training.network.vae import TotalVAE
from totalanvi.training.registration.registry import Registry
from totalanvi.training.scvi_import.names import registry_of
from totalanvi.training.scvi_import.options import config_of
from totalanvi.training.scvi_import.reference import Reference, data_beside, read_reference_of
from totalanvi.training.scvi_import.saves import ScviSave, read_save
from totalanvi.training.scvi_import.weights import translate_weights

__all__ = ["import_scvi", "scvi_checkpoint"]

_OWN = "usual_covariates."
"""Weights that scvi-tools does not have."""


def import_scvi(folder: str | Path, data: AnnData | MuData | None = None, prefix: str = "") -> TOTALVI:
    """Read a TOTALVI or a TOTALANVI that scvi-tools 1.1 to 1.5 saved, without scvi-tools.

    Parameters
    ----------
    folder
        What was given to its ``save``.
    data
        The data that the model was trained on, as it was set up; by default what was saved beside it, if anything was.
        Without data the model answers questions about data that is given to them, and cannot be exported.
    prefix
        What the names of its files begin with.

    Returns
    -------
    TOTALVI or TOTALANVI
        With the same weights. Latent means, class probabilities and parameters of the decoders are those of scvi-tools.

    Raises
    ------
    CheckpointError
        When there is no such model, or it has what ours cannot have. Nothing that the file names is ever run.
    TrainingError
        When the data is not that of the model.

    Examples
    --------
    >>> from totalanvi.training import import_scvi
    >>> model = import_scvi("saved_by_scvi/", data=adata)  # doctest: +SKIP
    >>> model.save("checkpoint/")  # doctest: +SKIP
    """
    folder = as_path("folder", folder)
    data = data_beside(folder, prefix) if data is None else data
    checkpoint = scvi_checkpoint(folder, data, prefix)
    model_class = TOTALANVI if checkpoint.kind == TOTALANVI.__name__ else TOTALVI
    with tempfile.TemporaryDirectory() as temporary:
        # By way of the disk: there is one way to make a model of a checkpoint.
        write_checkpoint(Path(temporary) / "checkpoint", checkpoint)
        return model_class.load(Path(temporary) / "checkpoint", adata=data)


def scvi_checkpoint(folder: Path, data: AnnData | MuData | None = None, prefix: str = "") -> Checkpoint:
    """Return a saved model as a checkpoint; with ``data``, cells of the reference travel with it.

    Raises
    ------
    TrainingError
        As `import_scvi`.
    """
    save = read_save(folder, prefix)
    registry, config = registry_of(save), config_of(save)
    reference = None
    if data is not None and save.is_trained:
        reference = read_reference_of(data, save, registry)
        registry = reference.registry
    module = _network(save, registry, config)
    sample = None
    if reference is not None:
        module.usual_covariates.learn(reference.cells, module.dims)
        sample = sample_reference(reference.cells, *reference.landmarks_and_held_out())
        if reference.split is None:
            warnings.warn(
                "The save does not tell which of these cells trained the model: a tenth of them, drawn at random, "
                "counts as held out, and labels may be calibrated to be too sure.",
                UserWarning,
                stacklevel=2,
            )
    return Checkpoint(
        kind=save.kind,
        weights=module.state_dict(),
        registry=registry,
        model=config.to_dict(),
        training=_training(save, reference) if save.is_trained else {},
        history={},
        versions=package_versions() | {"scvi-tools": save.version},
        sample=sample,
        split=None if reference is None else reference.split,
    )


def _network(save: ScviSave, registry: Registry, config: ModelConfig) -> TotalVAE:
    dims = registry.dimensions
    network_class = TotalANVAE if save.kind == TOTALANVI.__name__ else TotalVAE
    module = network_class.unfilled(dims, config)
    _expect_all_categories_alike(module)
    try:
        weights = translate_weights(save.weights, dims, config)
        own = {name: value for name, value in module.state_dict().items() if name.startswith(_OWN)}
        module.load_state_dict(own | weights)
    except (LookupError, RuntimeError) as error:
        first = " ".join(str(error).split("\n\t")[:2])  # torch names every weight
        raise CheckpointError(
            f"Expected the weights of a {save.kind} with these options and names, found others ({first}); load the "
            "model and save it anew with scvi-tools."
        ) from error
    return module.eval()


@torch.no_grad()
def _expect_all_categories_alike(module: TotalVAE) -> None:
    """Until the reference's cells tell how frequent its categories are."""
    shares = [torch.full((n,), 1.0 / n) for n in module.dims.n_categories]
    if module.usual_covariates.categorical is not None:
        module.usual_covariates.categorical.copy_(torch.cat(shares))


def _training(save: ScviSave, reference: Reference | None) -> dict[str, Any]:
    """What is known of a training that was not ours."""
    known: dict[str, Any] = {"by": f"scvi-tools {save.version}", "n_cells": save.n_cells}
    if save.split is not None:
        known |= {"n_train": len(save.split.train), "n_validation": len(save.split.validation)}
    if reference is not None:
        cells = reference.cells
        known |= {
            "n_cells": len(cells),
            "n_labelled": int((cells.label != UNLABELLED).sum()),
            "data_digest": data_digest(reference.registry, cells),
        }
    return known
