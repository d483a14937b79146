"""Architecture surgery: room for new batches and panels in a trained network, and nothing else set free.

A new batch gets a column in every layer that sees the batch, an efficiency and, where dispersions differ by batch, a
dispersion; a new panel gets a background prior. Training changes these alone. What the reference's batches are encoded
and decoded with stays as it is, bit by bit.

References
----------
Lotfollahi et al.: Mapping single-cell data to reference atlases by transfer learning. Nature Biotechnology 40 (2022),
scArches.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from totalanvi.training.data import Cells
from totalanvi.training.network.config import ModelConfig
from totalanvi.training.network.dimensions import Dimensions
from totalanvi.training.network.layers import BatchNorm
from totalanvi.training.network.library import library_moments
from totalanvi.training.network.vae import TotalVAE
from totalanvi.training.option_checks import require_flag

__all__ = ["Freezing", "extend", "freeze", "learn_library_prior", "mask_gradients"]

_PER_PANEL = ("background_pro_alpha", "background_pro_log_beta")
_PER_BATCH = ("log_per_batch_efficiency", "library_log_means", "library_log_vars")
_DECODERS = ("gene_decoder.", "protein_decoder.")


@dataclass(frozen=True)
class Freezing:
    """What stays as it is besides the reference's own batches; the names are those of scvi-tools.

    Parameters
    ----------
    unfrozen
        Train everything.
    freeze_dropout
        Train without dropout.
    freeze_expression
        Keep what the encoder's first layer makes of counts.
    freeze_decoder_first_layer
        Keep the first layers of the decoders.
    freeze_batchnorm_encoder, freeze_batchnorm_decoder
        Keep weights and statistics of batch norm.
    freeze_classifier
        Keep the classifier.

    Raises
    ------
    ArgumentError
        For flags that are neither true nor false.
    """

    unfrozen: bool = False
    freeze_dropout: bool = False
    freeze_expression: bool = True
    freeze_decoder_first_layer: bool = True
    freeze_batchnorm_encoder: bool = True
    freeze_batchnorm_decoder: bool = True
    freeze_classifier: bool = True

    def __post_init__(self) -> None:
        require_flag(self, tuple(field.name for field in fields(self)))


def extend(trained: TotalVAE, dims: Dimensions) -> TotalVAE:
    """Copy a network into one with more batches and panels.

    Parameters
    ----------
    trained
        The reference's network.
    dims
        Its sizes with the query's new batches and panels, whose codes follow the old ones.

    Returns
    -------
    TotalVAE
        Of the class of ``trained``. A new batch begins where no batch is told in the encoder, and as the average batch
        in the decoders; a new panel with the average prior. Both are sensible before any training.
    """
    old, config = trained.dims, trained.config
    module = type(trained).unfilled(dims, config)

    def extended(name: str, value: Tensor) -> Tensor:
        columns = _columns_of(name, value, old, config)
        if columns is None:
            return value
        known, n_new = value[:, columns], _n_new(name, old, dims)
        if name.startswith("encoder.") or name == "log_per_batch_efficiency":
            added = value.new_zeros(len(value), n_new)
        else:
            added = known.mean(dim=1, keepdim=True).expand(-1, n_new)
        return torch.cat((value[:, : columns.stop], added, value[:, columns.stop :]), dim=1)

    module.load_state_dict({name: extended(name, value) for name, value in trained.state_dict().items()})
    return module


def learn_library_prior(module: TotalVAE, query: Cells, reference: Dimensions) -> None:
    """Take the prior of an inferred library of each new batch from the query's cells."""
    if module.use_observed_lib_size:
        return
    means, variances = library_moments(query, module.dims.n_batches).t()
    module.library_log_means[0, reference.n_batches :] = means[reference.n_batches :]
    module.library_log_vars[0, reference.n_batches :] = variances[reference.n_batches :]


def freeze(module: TotalVAE, reference: Dimensions, freezing: Freezing) -> None:
    """Let training reach the new entries of an extended network alone, and what ``freezing`` sets free.

    Parameters
    ----------
    module
        What `extend` returned.
    reference
        The sizes before.
    freezing
        What stays as it is.
    """
    if freezing.freeze_dropout:
        for layer in module.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
    if freezing.unfrozen:
        return
    for name, layer in module.named_modules():
        if isinstance(layer, BatchNorm) and _keeps_norm(name, freezing):
            layer.frozen = True
            layer.eval()
    parts: dict[str, Tensor] = {}
    for name, parameter in module.named_parameters():
        if _is_free(name, freezing):
            continue
        n_new = _n_new(name, reference, module.dims)
        columns = _columns_of(name, parameter, module.dims, module.config) if n_new else None
        if columns is None:
            parameter.requires_grad = False
        else:
            parts[name] = torch.zeros_like(parameter, dtype=torch.bool)
            parts[name][:, columns.stop - n_new : columns.stop] = True
    module.trained_parts = parts


def mask_gradients(module: TotalVAE) -> None:
    """Let the gradients of parameters of which a part is trained reach that part alone.

    With no gradient from the first step on, and no weight decay (see `totalanvi.training.fitting.optimizers`), Adam
    leaves an entry as it is, exactly.

    Parameters
    ----------
    module
        The network, after the backward pass; ``trained_parts`` says which entries.
    """
    for name, trained in module.trained_parts.items():
        gradient = module.get_parameter(name).grad
        if gradient is not None:
            gradient.mul_(trained.to(gradient.device))


def _columns_of(name: str, value: Tensor, dims: Dimensions, config: ModelConfig) -> slice | None:
    """Columns of a tensor that belong to a batch or a panel each; `None` where it has none."""
    if name in _PER_PANEL:
        return slice(0, dims.n_panels)
    per_batch = {"px_r": config.gene_dispersion, "py_r": config.protein_dispersion}
    if name in _PER_BATCH or per_batch.get(name, "").endswith("-batch"):
        return slice(0, dims.n_batches)
    is_encoder = name.startswith("encoder.") and ".linears." in name and config.encode_covariates
    if value.dim() == 2 and (is_encoder or name.startswith(_DECODERS)):
        # The batch, then the categorical covariates, come last in what a layer sees.
        start = value.shape[1] - dims.n_injected
        return slice(start, start + dims.n_batches)
    return None


def _n_new(name: str, old: Dimensions, new: Dimensions) -> int:
    return new.n_panels - old.n_panels if name in _PER_PANEL else new.n_batches - old.n_batches


def _keeps_norm(name: str, freezing: Freezing) -> bool:
    if name.startswith(_DECODERS) or name.startswith("decoder_z."):
        return freezing.freeze_batchnorm_decoder
    if name.startswith("classifier"):
        return freezing.freeze_classifier
    return freezing.freeze_batchnorm_encoder


def _is_free(name: str, freezing: Freezing) -> bool:
    """Whether a parameter is trained whole."""
    if name.startswith("classifier"):
        return not freezing.freeze_classifier
    if name.startswith(("encoder.rna_in.", "encoder.trunk.linears.0.")):
        return not freezing.freeze_expression
    if name.startswith(_DECODERS):
        if "trunk.linears.0." in name:
            return not freezing.freeze_decoder_first_layer
        return "trunk.norms." in name and not freezing.freeze_batchnorm_decoder
    return name.startswith("encoder.trunk.norms.") and not freezing.freeze_batchnorm_encoder
