"""Train tiny models with scvi-tools, save them, and write down what scvi-tools itself makes of some cells.

    python tests/reference/make_scvi_saves.py [NAME ...]

runs in an environment with scvi-tools, and without this package. It writes, for the version that is installed there,
``scvi/VERSION/NAME/model.pt`` and ``outputs.npz``, which ``tests/unit/training/test_scvi_import_parity.py`` holds an
import against. Versions differ in what they save (`VARIANTS`), so that each was run: what is committed was made by
scvi-tools 1.1.6, 1.2.2, 1.3.3, 1.4.2 and 1.5.1, with torch 2.13 on a CPU.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scvi
import torch
from cells import UNLABELED, anndata_of, mudata_of, read_cells, simulate_cells

HERE = Path(__file__).parent / "scvi"
N_OUTPUTS = 24
"""Cells of which outputs are written."""
SMALL = {"n_latent": 4, "n_hidden": 8}
BATCH = {"batch_key": "batch"}
LABELS = {"labels_key": "cell_type", "unlabeled_category": UNLABELED}
COVARIATES = {
    "categorical_covariate_keys": ["sex", "site", "donor"],
    "continuous_covariate_keys": ["age", "stress"],
}
MODALITIES = {"rna_layer": "rna", "protein_layer": "prot", "batch_key": "rna"}


@dataclass(frozen=True)
class Variant:
    """One model: how its data is set up, and its options."""

    setup: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    labelled: bool = False
    mudata: bool = False
    from_totalvi: bool = False
    proteins: str = "protein"


TOTALVI = {
    "totalvi": Variant(BATCH),
    "totalvi_layer_norm": Variant(
        BATCH,
        {"use_batch_norm": "none", "use_layer_norm": "both", "n_layers_encoder": 3, "n_layers_decoder": 2},
    ),
    "totalvi_both_norms": Variant(
        {"batch_key": "batch_as_given"},
        {"use_batch_norm": "both", "use_layer_norm": "encoder", "log_variational": False},
    ),
    "totalvi_zinb": Variant(
        BATCH,
        {"gene_likelihood": "zinb", "gene_dispersion": "gene-batch", "protein_dispersion": "protein-batch"},
    ),
    "totalvi_library": Variant(BATCH, {"use_observed_lib_size": False, "n_layers_encoder": 1}),
    "totalvi_size_factor": Variant({**BATCH, "size_factor_key": "size"}),
    "totalvi_covariates": Variant(COVARIATES, {"use_observed_lib_size": False, "n_layers_decoder": 2}),
    "totalvi_unencoded": Variant({**BATCH, **COVARIATES}, {"encode_covariates": False}),
    "totalvi_panels": Variant(
        {**BATCH, "panel_key": "panel"},
        {"empirical_protein_background_prior": True},
        proteins="protein_by_panel",
    ),
    "totalvi_missing": Variant(BATCH, proteins="protein_by_batch"),
    "totalvi_overridden": Variant(BATCH, {"override_missing_proteins": True}, proteins="protein_by_batch"),
    "totalvi_ln": Variant(BATCH, {"latent_distribution": "ln"}),
    "totalvi_mudata": Variant(BATCH, mudata=True),
}
TOTALANVI = {
    "totalanvi": Variant(BATCH | LABELS, labelled=True),
    "totalanvi_linear": Variant(BATCH | LABELS, {"linear_classifier": True, "gene_likelihood": "zinb"}, labelled=True),
    "totalanvi_classifier": Variant(
        BATCH | LABELS | COVARIATES,
        {
            "classifier_parameters": {"n_layers": 1, "n_hidden": 5},
            "use_batch_norm": "decoder",
            "use_layer_norm": "encoder",
            "y_prior": torch.tensor([[0.5, 0.2, 0.3]]),
        },
        labelled=True,
    ),
    "totalanvi_exp": Variant(
        BATCH | LABELS,
        {
            "extra_decoder_kwargs": {"activation_function_bg": "exp"},
            "gene_dispersion": "gene-batch",
            "n_layers_encoder": 1,
            "use_layer_norm": "both",
        },
        labelled=True,
    ),
    "totalanvi_missing": Variant(BATCH | LABELS, labelled=True, proteins="protein_by_batch"),
    "totalanvi_from_totalvi": Variant(BATCH, labelled=True, from_totalvi=True),
    "totalanvi_ln": Variant(BATCH | LABELS, {"latent_distribution": "ln"}, labelled=True),
}
VARIANTS = {
    # Before 1.2, the scale of the log background was an exponential. Before 1.3.1, encoders took counts that were not
    # divided by the cell's mean, batches did not differ in how well they capture proteins, and there was no TOTALANVI.
    "1.1": {"totalvi": TOTALVI["totalvi"], "totalvi_mudata": TOTALVI["totalvi_mudata"]},
    "1.2": {"totalvi_library": TOTALVI["totalvi_library"]},
    "1.3": {"totalvi_covariates": TOTALVI["totalvi_covariates"], "totalanvi": TOTALANVI["totalanvi"]},
    "1.4": {"totalvi_panels": TOTALVI["totalvi_panels"], "totalanvi_missing": TOTALANVI["totalanvi_missing"]},
    "1.5": TOTALVI | TOTALANVI | {"totalanvi_mudata": Variant(BATCH | LABELS, labelled=True, mudata=True)},
}


def make(name: str, variant: Variant, arrays: dict[str, Any]) -> None:
    """Train and save one model, and write what it makes of the first cells."""
    scvi.settings.seed = 0
    kind = scvi.external.TOTALANVI if variant.labelled and not variant.from_totalvi else scvi.model.TOTALVI
    data = mudata_of(arrays) if variant.mudata else anndata_of(arrays)
    if variant.mudata:
        modalities = MODALITIES | ({"labels_key": "rna"} if variant.labelled else {})
        kind.setup_mudata(data, modalities=modalities, **variant.setup)
    else:
        kind.setup_anndata(data, protein_expression_obsm_key=variant.proteins, **variant.setup)
    model = kind(data, **SMALL, **variant.options)
    train(model)
    if variant.from_totalvi:
        model = scvi.external.TOTALANVI.from_totalvi_model(model, **LABELS)
        train(model)
    folder = HERE / scvi.__version__ / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save(str(folder))
    np.savez_compressed(folder / "outputs.npz", **outputs(model, variant))


def train(model: Any) -> None:
    """Take some twenty steps, large enough that no parameter stays where it began."""
    if type(model) is scvi.model.TOTALVI:
        rate = {"lr": 0.02, "reduce_lr_on_plateau": False, "early_stopping": False}
    else:
        rate = {"plan_kwargs": {"lr": 0.02}}
    model.train(max_epochs=5, batch_size=16, train_size=0.8, accelerator="cpu", enable_progress_bar=False, **rate)


@torch.inference_mode()
def outputs(model: Any, variant: Variant) -> dict[str, Any]:
    """What the model makes of the first cells at the mean of their posterior, in evaluation mode."""
    module = model.module.eval()
    loader = model._make_data_loader(adata=model.adata, indices=np.arange(N_OUTPUTS), batch_size=N_OUTPUTS)
    (tensors,) = loader
    inferred = module.inference(**module._get_inference_input(tensors))
    z, library = inferred["qz"], inferred["ql"]
    at_mean = inferred | {"z": module.encoder.z_transformation(z.loc)}
    if not module.use_observed_lib_size:
        at_mean["library_gene"] = library.loc.exp()
    decoded = module.generative(**module._get_generative_input(tensors, at_mean))
    px, py = decoded["px_"], decoded["py_"]
    result = {
        "z_mean": z.loc,
        "z_scale": z.scale,
        "px_scale": px["scale"],
        "px_rate": px["rate"],
        "px_r": px["r"],
        "px_dropout": px["dropout"],
        "py_back_alpha": py["back_alpha"],
        "py_back_beta": py["back_beta"],
        "py_fore_scale": py["fore_scale"],
        "py_mixing": py["mixing"],
        "py_r": py["r"],
        "back_prior_mean": module.back_mean_prior.loc,
        "back_prior_scale": module.back_mean_prior.scale,
    }
    if "per_batch_efficiency" in decoded:
        result["per_batch_efficiency"] = decoded["per_batch_efficiency"]
    if not module.use_observed_lib_size:
        result |= {"library_mean": library.loc, "library_scale": library.scale}
    arrays = {name: value.numpy() for name, value in result.items()}
    if variant.labelled:
        soft = model.predict(indices=np.arange(N_OUTPUTS), soft=True)
        arrays |= {"probabilities": soft.to_numpy(), "labels": np.array(list(soft.columns), dtype=str)}
    return arrays


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    if not (HERE / "cells.npz").exists():
        np.savez_compressed(HERE / "cells.npz", **simulate_cells())
    variants = VARIANTS[".".join(scvi.__version__.split(".")[:2])]
    for name in sys.argv[1:] or variants:
        make(name, variants[name], read_cells(HERE / "cells.npz"))
        print(name)
