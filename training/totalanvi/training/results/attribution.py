"""How much each gene and each protein of a cell speaks for a label."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from rich.progress import track
from torch import Tensor

from totalanvi.training.data import Cells
from totalanvi.training.loaders import cell_loader
from totalanvi.training.network.anvae import TotalANVAE
from totalanvi.training.network.covariates import Covariates
from totalanvi.training.network.inputs import EncoderInputs
from totalanvi.training.registration.registry import Registry
from totalanvi.training.results.attribution_options import AttributionOptions
from totalanvi.training.results.integrated_gradients import N_DECADES, Paths, integrated_gradients

__all__ = ["attributions", "feature_columns", "ranked_features"]

Array = npt.NDArray[np.float32]


def attributions(
    module: TotalANVAE,
    cells: Cells,
    target: npt.NDArray[np.intp],
    options: AttributionOptions,
    *,
    silent: bool = True,
) -> Iterator[Array]:
    """Integrated gradients of a label's logit, one mini-batch of cells at a time, (cells, genes + proteins).

    The logit is that at the posterior mean of z. Which proteins were measured, the batch and the covariates are no part
    of the path: they stay those of the cell, and a protein that was not measured is attributed nothing. Everything is
    computed in double precision: thousands of terms sum to a difference that may be small.

    Parameters
    ----------
    module
        The network, of which a copy is put into evaluation mode.
    cells
        Any cells.
    target
        Code of the label in question, (cells,).
    options
        How to integrate.
    silent
        Show no progress.

    Warns
    -----
    UserWarning
        In the end, when attributions of some cells are not complete.
    """
    twin = deepcopy(module).eval().requires_grad_(False).double()
    device = module.px_r.device
    logits, baseline = _label_logits(twin), torch.from_numpy(options.baseline).double().to(device)
    start = n_incomplete = 0
    for batch in track(cell_loader(cells, batch_size=options.batch_size), "Attributions", disable=silent):
        on_device = batch.to(device)
        inputs = EncoderInputs.of(on_device, module.dims)
        paths = Paths(
            logits=logits,
            counts=torch.cat((on_device.rna.to_dense(), on_device.protein), dim=-1).double(),
            baseline=baseline,
            target=torch.from_numpy(target[start : start + batch.n_cells]).to(device),
            beside=tuple(None if part is None else part.double() for part in (inputs.measured, *inputs.covariates)),
        )
        found = integrated_gradients(paths, -(-options.n_steps // N_DECADES), options.batch_size)
        yield found.values.float().cpu().numpy()
        start += batch.n_cells
        n_incomplete += int((~found.is_complete).sum())
    if n_incomplete:
        warnings.warn(
            f"Expected attributions that sum to what the logit gains, to 1 %, found {n_incomplete} of {len(cells)} "
            "cells whose do not, however finely their paths were cut; give more steps (n_steps), or leave these cells "
            "out.",
            UserWarning,
            stacklevel=2,
        )


def _label_logits(module: TotalANVAE) -> Callable[..., Tensor]:
    """Counts, (cells, genes + proteins), what was measured, and covariates → logits, (cells, labels)."""

    def logits(counts: Tensor, measured: Tensor, *covariates: Tensor) -> Tensor:
        rna, protein = counts[:, : module.dims.n_genes], counts[:, module.dims.n_genes :]
        library = rna.sum(dim=-1, keepdim=True)
        z, _ = module.encode(EncoderInputs(rna, library, protein, measured, Covariates(*covariates)))
        return module.classify(module.transform(z.mean))

    return logits


def feature_columns(registry: Registry) -> pd.MultiIndex:
    """Modality, ``"rna"`` or ``"protein"``, and name of each feature, genes first; both may have the same name."""
    modality = np.repeat(["rna", "protein"], [len(registry.genes), len(registry.proteins)])
    return pd.MultiIndex.from_arrays([modality, registry.genes + registry.proteins], names=["modality", "feature"])


def ranked_features(batches: Iterable[npt.NDArray[np.floating]], features: pd.MultiIndex) -> pd.DataFrame:
    """Mean and standard deviation over cells of each feature's attribution, the highest mean first.

    Parameters
    ----------
    batches
        Attributions of some cells after the other, each (cells, genes + proteins).
    features
        What `feature_columns` gives.
    """
    from sklearn.preprocessing import StandardScaler

    moments = StandardScaler()  # for its running mean and variance
    for batch in batches:
        moments.partial_fit(batch)
    order = np.argsort(-moments.mean_, kind="stable")
    return pd.DataFrame(
        {
            "feature": features.get_level_values("feature")[order],
            "feature_idx": order,
            "modality": features.get_level_values("modality")[order],
            "attribution_mean": moments.mean_[order],
            "attribution_std": np.sqrt(moments.var_[order]),
            "cells": int(moments.n_samples_seen_),
        }
    )
