"""With the same weights and inputs, an imported model computes what scvi-tools computed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tests.reference.saves import SAVES, Save

from totalanvi.training.network.inputs import EncoderInputs
from totalanvi.training.scvi_import.checkpoint import import_scvi

TOLERANCE = 1e-5
FLOOR = 1e-2
"""Share of an output's largest value below which its difference counts as if it were that large."""

WITH_PARITY = [save for save in SAVES if save.name != "totalanvi_ln"]
"""Of the other, `test_scvi_import_weights` says what it is."""

Outputs = dict[str, npt.NDArray[np.float32]]


@torch.inference_mode()
def outputs_of(save: Save, n_cells: int) -> Outputs:
    """What the imported model makes of the first cells, under the names of scvi-tools."""
    model = import_scvi(save.folder, save.data())
    module, cells = model.module, model._reference_cells()[np.arange(n_cells)].to_batch()
    inputs = EncoderInputs.of(cells, module.dims)
    z, library = module.encode(inputs)
    latent = module.transform(z.mean)
    log_scale, dropout = module.decode_genes(latent, inputs.covariates)
    proteins = module.decode_proteins(latent, inputs.covariates)
    log_size = module.log_size(cells, None) if library is None else library.mean
    panel = cells.panel
    result = {
        "z_mean": z.mean,
        "z_scale": z.scale,
        "px_scale": log_scale.exp(),
        "px_rate": (log_scale + log_size).exp(),
        "px_r": module.gene_log_theta(inputs.covariates).exp(),
        "py_back_alpha": proteins.log_background_mean,
        "py_back_beta": proteins.log_background_scale,
        "py_fore_scale": proteins.log_foreground_ratio.exp(),
        "py_mixing": proteins.background_logits,
        "py_r": module.protein_log_theta(inputs.covariates).exp(),
        "per_batch_efficiency": module.log_efficiency(inputs.covariates.batch).exp(),
        "back_prior_mean": module.background_pro_alpha.t()[panel],
        "back_prior_scale": module.background_pro_log_beta.t()[panel].exp(),
    }
    if dropout is not None:
        result["px_dropout"] = dropout
    if library is not None:
        result |= {"library_mean": library.mean, "library_scale": library.scale}
    arrays = {name: value.numpy() for name, value in result.items()}
    if save.is_labelled:
        soft = model.predict(indices=np.arange(n_cells), soft=True)
        arrays |= {"probabilities": soft.to_numpy(), "labels": np.array(list(soft.columns))}
    return arrays


@pytest.mark.parametrize("save", WITH_PARITY, ids=str)
def test_an_imported_model_computes_what_scvi_tools_computed(save: Save) -> None:
    expected = save.outputs()
    found = outputs_of(save, len(expected["z_mean"]))
    # Theirs computes the logits of extra zeros where no likelihood has any, and has efficiencies since 1.3.1.
    assert expected.keys() ^ found.keys() <= {"px_dropout", "per_batch_efficiency"}
    for name in sorted(expected.keys() & found.keys() - {"labels"}):
        scale = np.abs(expected[name]) + FLOOR * np.abs(expected[name]).max()
        assert (np.abs(found[name] - expected[name]) / scale).max() < TOLERANCE, name
    if save.is_labelled:
        assert list(found["labels"]) == list(expected["labels"])


def test_the_saves_cover_every_version() -> None:
    assert {save.version[:3] for save in SAVES} == {"1.1", "1.2", "1.3", "1.4", "1.5"}
