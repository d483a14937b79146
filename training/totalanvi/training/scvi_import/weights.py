"""From the weights of scvi-tools to ours: the same numbers under other names, in other places.

=============================================  =================================================================
there                                          here
=============================================  =================================================================
first layer of an encoder: [RNA, proteins, …]  RNA has a map of its own; then [proteins, whether measured, …],
                                               where the middle has weight 0
covariates with one category are left out      one-hot like the others, with a column of zeros
an encoder always knows the batch              what batches have in common is part of the shift: a query's batch is
                                               unknown, which is no batch at all, and now stands for the average one
``sigmoid_decoder``                            one trunk for extra zeros of genes, and one for protein background
layer norm without scale and shift             scale 1 and shift 0
no efficiency of batches (before 1.3.1)         its logarithm is 0
=============================================  =================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count, takewhile

import torch
from torch import Tensor

from totalanvi.training.network.config import ModelConfig
from totalanvi.training.network.dimensions import Dimensions
from totalanvi.training.network.layers import NormKind
from totalanvi.training.network.library import infers_library

__all__ = ["EFFICIENCY", "translate_weights"]

Weights = dict[str, Tensor]

_SAME = ("background_pro_alpha", "background_pro_log_beta", "px_r", "py_r", "library_log_means", "library_log_vars")
EFFICIENCY = "log_per_batch_efficiency"
"""How efficiently each batch captures each protein; the versions since 1.3.1 have it."""


def translate_weights(theirs: Mapping[str, Tensor], dims: Dimensions, config: ModelConfig) -> Weights:
    """Weights of `TotalVAE`, or of `TotalANVAE` where ``dims`` has labels.

    The averages of the covariates that stand in for a query's are not among them: scvi-tools has none.

    Parameters
    ----------
    theirs
        Weights by the names of scvi-tools.
    dims, config
        Sizes and options of the model.

    Raises
    ------
    KeyError
        When a weight is missing.
    """
    ours = {name: theirs[name] for name in _SAME if name in theirs}
    ours[EFFICIENCY] = theirs.get(EFFICIENCY, torch.zeros(dims.n_proteins, dims.n_batches))
    ours |= _under("encoder", _encoder(theirs, dims, config))
    ours |= _under("gene_decoder", _gene_decoder(theirs, dims, config))
    ours |= _under("protein_decoder", _protein_decoder(theirs, dims, config))
    return ours | _labelled(theirs, dims, config) if dims.n_labels else ours


def _encoder(theirs: Mapping[str, Tensor], dims: Dimensions, config: ModelConfig) -> Weights:
    ours = _encoder_stack(theirs, "encoder.encoder", dims, config)
    ours |= _linear(theirs, "encoder.z_mean_encoder", "z_mean")
    ours |= _linear(theirs, "encoder.z_var_encoder", "z_log_variance")
    if not infers_library(config, dims):
        return ours
    library = _encoder_stack(theirs, "encoder.l_gene_encoder", dims, config)
    library |= _linear(theirs, "encoder.l_gene_mean_encoder", "mean")
    library |= _linear(theirs, "encoder.l_gene_var_encoder", "log_variance")
    return ours | _under("library", library)


def _gene_decoder(theirs: Mapping[str, Tensor], dims: Dimensions, config: ModelConfig) -> Weights:
    ours = _trunk(theirs, "decoder.px_decoder", "trunk", dims, config)
    ours |= _head(theirs, "decoder.px_scale_decoder", "log_scale", dims)
    if config.gene_likelihood == "zinb":
        ours |= _trunk(theirs, "decoder.sigmoid_decoder", "dropout_trunk", dims, config)
        ours |= _head(theirs, "decoder.px_dropout_decoder_gene", "dropout_logits", dims)
    return ours


def _protein_decoder(theirs: Mapping[str, Tensor], dims: Dimensions, config: ModelConfig) -> Weights:
    trunks = {"py_back_decoder": "background", "py_fore_decoder": "foreground", "sigmoid_decoder": "mixing"}
    heads = {
        "py_back_mean_log_alpha": "background_mean",
        "py_back_mean_log_beta": "background_scale",
        "py_fore_scale_decoder": "foreground_ratio",
        "py_background_decoder": "background_logits",
    }
    ours: Weights = {}
    for their_name, our_name in trunks.items():
        ours |= _trunk(theirs, f"decoder.{their_name}", f"{our_name}_trunk", dims, config)
    for their_name, our_name in heads.items():
        ours |= _head(theirs, f"decoder.{their_name}", our_name, dims)
    return ours


def _labelled(theirs: Mapping[str, Tensor], dims: Dimensions, config: ModelConfig) -> Weights:
    """The classifier, and the prior of z given a label."""
    # One linear map, or hidden layers and then one.
    hidden = _stack(theirs, "classifier.classifier.0", (), config.norm_encoder)
    ours = _under("classifier_trunk", hidden)
    ours |= _linear(theirs, f"classifier.classifier.{1 if hidden else 0}", "classifier")
    for their_name, part, our_name, norm in (
        ("encoder_z2_z1", "encoder", "encoder_u", config.norm_encoder),
        ("decoder_z1_z2", "decoder", "decoder_z", config.norm_decoder),
    ):
        ours |= _under(f"{our_name}.trunk", _stack(theirs, f"{their_name}.{part}", (dims.n_labels,), norm))
        ours |= _linear(theirs, f"{their_name}.mean_{part}", f"{our_name}.mean")
        ours |= _linear(theirs, f"{their_name}.var_{part}", f"{our_name}.log_variance")
    return ours | {"label_prior_logits": theirs["y_prior"].squeeze(0).log()}


def _encoder_stack(theirs: Mapping[str, Tensor], name: str, dims: Dimensions, config: ModelConfig) -> Weights:
    """Layers of an encoder, the first of which is taken apart."""
    trunk = _stack(theirs, name, _injected(dims) if config.encode_covariates else (), config.norm_encoder)
    if config.encode_covariates:
        _centre_batches(trunk, dims)
    first = trunk["linears.0.weight"]
    rna, proteins, others = first.tensor_split((dims.n_genes, dims.n_genes + dims.n_proteins), dim=1)
    trunk["linears.0.weight"] = torch.cat((proteins, torch.zeros_like(proteins), others), dim=1)
    return {"rna_in.weight": rna} | _under("trunk", trunk)


def _centre_batches(trunk: Weights, dims: Dimensions) -> None:
    """Move the mean of the batches' columns into the shift; for a cell whose batch is known, nothing changes."""
    for name in [name for name in trunk if name.startswith("linears.") and name.endswith(".weight")]:
        batches = trunk[name][:, -sum(_injected(dims)) :][:, : dims.n_batches]
        mean = batches.mean(dim=1)
        batches -= mean[:, None]
        bias = name.replace("weight", "bias")
        trunk[bias] = trunk[bias] + mean


def _trunk(theirs: Mapping[str, Tensor], name: str, our_name: str, dims: Dimensions, config: ModelConfig) -> Weights:
    return _under(our_name, _stack(theirs, name, _injected(dims), config.norm_decoder))


def _head(theirs: Mapping[str, Tensor], name: str, our_name: str, dims: Dimensions) -> Weights:
    head = _stack(theirs, name, _injected(dims), "none")
    return {f"{our_name}.weight": head["linears.0.weight"], f"{our_name}.bias": head["linears.0.bias"]}


def _stack(theirs: Mapping[str, Tensor], name: str, injected: Sequence[int], norm: NormKind) -> Weights:
    """Weights of a `FullyConnected`, as many layers as there are.

    Parameters
    ----------
    theirs
        Weights by the names of scvi-tools.
    name
        Of the stack.
    injected
        Categories of each covariate that every layer sees.
    norm
        Normalisation between the layers.
    """
    layers = (f"{name}.fc_layers.Layer {i}" for i in count())
    ours: Weights = {}
    for i, layer in enumerate(takewhile(lambda layer: f"{layer}.0.weight" in theirs, layers)):
        weight = theirs[f"{layer}.0.weight"]
        ours[f"linears.{i}.weight"] = _with_single_categories(weight, injected)
        ours[f"linears.{i}.bias"] = theirs[f"{layer}.0.bias"]
        batch_norm = {part: theirs[f"{layer}.1.{part}"] for part in _BATCH_NORM} if norm.startswith("batch") else {}
        layer_norm = {"weight": torch.ones(len(weight)), "bias": torch.zeros(len(weight))}
        if norm == "batch":
            ours |= _under(f"norms.{i}", batch_norm)
        elif norm == "layer":
            ours |= _under(f"norms.{i}", layer_norm)
        elif norm == "batch+layer":
            ours |= _under(f"norms.{i}.0", batch_norm) | _under(f"norms.{i}.1", layer_norm)
    return ours


_BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def _with_single_categories(weight: Tensor, injected: Sequence[int]) -> Tensor:
    """``weight``, (out, in), whose last columns are those of the covariates, with columns for all of them."""
    has_column = torch.tensor([n > 1 for n in injected for _ in range(n)], dtype=torch.bool)
    features, covariates = weight.tensor_split((weight.shape[1] - int(has_column.sum()),), dim=1)
    all_covariates = weight.new_zeros(len(weight), len(has_column))
    all_covariates[:, has_column] = covariates
    return torch.cat((features, all_covariates), dim=1)


def _injected(dims: Dimensions) -> tuple[int, ...]:
    return (dims.n_batches, *dims.n_categories)


def _linear(theirs: Mapping[str, Tensor], name: str, our_name: str) -> Weights:
    return {f"{our_name}.{part}": theirs[f"{name}.{part}"] for part in ("weight", "bias")}


def _under(name: str, weights: Weights) -> Weights:
    return {f"{name}.{part}": value for part, value in weights.items()}
