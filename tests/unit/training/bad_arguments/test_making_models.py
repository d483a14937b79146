"""What makes no sense is refused by name, in one error of ours: data, models and training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata as ad
import pandas as pd
import pytest
from tests.support.reference_cells import FAST, MODALITIES, PROTEINS, draw_adata, draw_mudata
from tests.support.refusals import named, refused

from totalanvi.training import TOTALANVI, TOTALVI, RegistrationError

# Set-up

KEYS = ("batch_key", "panel_key", "labels_key", "size_factor_key", "layer", "protein_names_uns_key")


@named(
    [
        *(({key: value}, rf"{key}: expected a name, found .*") for key in KEYS for value in (5, ["donor"])),
        ({"protein_expression_obsm_key": None}, "protein_expression_obsm_key: expected str, found NoneType; name the"),
        ({"protein_expression_obsm_key": ["a"]}, "protein_expression_obsm_key: expected str, found list"),
        ({"categorical_covariate_keys": 5}, "categorical_covariate_keys: expected a list of columns, found 5"),
        ({"categorical_covariate_keys": [["donor"]]}, "categorical_covariate_keys: expected str, found list"),
        ({"continuous_covariate_keys": [None]}, "continuous_covariate_keys: expected str, found NoneType"),
    ]
)
def test_setting_up_an_anndata(arguments: dict[str, Any], message: str) -> None:
    adata = draw_adata()
    refused(
        lambda: TOTALANVI.setup_anndata(adata, **{"protein_expression_obsm_key": PROTEINS, **arguments}), f"^{message}"
    )
    assert not adata.uns


@named(
    [
        *(({"modalities": value}, "modalities: expected Mapping, found") for value in (5, "rna", ["rna", "prot"])),
        (
            {"modalities": {"rna_layer": ["rna"], "protein_layer": "prot"}},
            r"modalities\['rna_layer'\]: expected a name",
        ),
        ({"rna_layer": 5}, "rna_layer: expected a name, found 5"),
        ({"batch_key": ["donor"]}, r"batch_key: expected a name, found \['donor'\]"),
    ]
)
def test_setting_up_a_mudata(arguments: dict[str, Any], message: str) -> None:
    refused(lambda: TOTALANVI.setup_mudata(draw_mudata(), **{"modalities": MODALITIES, **arguments}), f"^{message}")


def test_one_modality_cannot_be_both() -> None:
    both = {"rna_layer": "rna", "protein_layer": "rna"}
    message = (
        "modalities: expected one modality for RNA and another for proteins, found 'rna' for both; name two of rna"
    )
    refused(lambda: TOTALVI.setup_mudata(draw_mudata(), modalities=both), message, RegistrationError)


@pytest.mark.parametrize("data", [None, 5, "cells.h5ad", pd.DataFrame()], ids=repr)
def test_what_is_no_data(data: Any, model: TOTALANVI, trained: TOTALANVI) -> None:
    found = f"found {type(data).__name__}; "
    for call in (
        lambda: TOTALVI(data),
        lambda: TOTALVI.setup_anndata(data, PROTEINS),
        lambda: TOTALVI.setup_mudata(data, modalities=MODALITIES),
        lambda: TOTALANVI.prepare_query_anndata(data, model),
        lambda: TOTALANVI.prepare_query_mudata(data, trained),
        lambda: model.view_anndata_setup(5 if data is None else data),
        lambda: model.get_latent_representation(5 if data is None else data),
        lambda: TOTALANVI.load_query_data(5 if data is None else data, model, inplace_subset_query_vars=True),
    ):
        refused(call, f"data: expected .*, {found}|data: expected .*, found int; ", RegistrationError)


# Making a model


@named(
    [
        *(
            ({name: value}, f"{name}: expected a whole number of at least 1, found")
            for name in ("n_latent", "n_hidden", "n_layers_encoder", "n_layers_decoder", "n_enumerated_labels")
            for value in (1.5, "x", None, True)
        ),
        ({"classifier_parameters": {"n_layers": 1.5}}, "classifier_n_layers: expected a whole number of at least 0"),
        ({"classifier_parameters": 5}, "classifier_parameters: expected Mapping, found int"),
        ({"extra_decoder_kwargs": [1]}, "extra_decoder_kwargs: expected Mapping, found list"),
        ({"dropout_rate_encoder": "x"}, "dropout_rate_encoder: expected a number of at least 0 and at most 1"),
        *(
            ({name: "no"}, f"{name}: expected True or False, found 'no'")
            for name in (
                "encode_covariates",
                "linear_classifier",
                "use_observed_lib_size",
                "log_variational",
                "scale_inputs",
                "empirical_protein_background_prior",
                "override_missing_proteins",
            )
        ),
        ({"gene_dispersion": ["gene"]}, "gene_dispersion: expected one of gene, gene-batch"),
        ({"use_batch_norm": ["both"]}, "use_batch_norm: expected one of encoder, decoder, none, both"),
        ({"label_prior": 5}, "label_prior: expected a list of probabilities, found 5"),
        ({"label_prior": ["a", "b"]}, "label_prior: expected a number above 0 and at most 1, found 'a'"),
        ({"y_prior": "x"}, "label_prior: expected one of uniform, learned, found 'x'"),
        *(({"seed": value}, "seed: expected a whole number of at least 0") for value in ("x", 1.5, -1, None, 2**70)),
    ]
)
def test_making_a_model(adata: ad.AnnData, arguments: dict[str, Any], message: str) -> None:
    refused(lambda: TOTALANVI(adata, **arguments), f"^{message}")


def test_from_totalvi(trained_totalvi: TOTALVI) -> None:
    make = TOTALANVI.from_totalvi_model
    refused(lambda: make(5, "unknown", "kind"), "totalvi_model: expected TOTALVI, found int")  # type: ignore[arg-type]
    refused(lambda: make(trained_totalvi, "unknown", 5), "labels_key: expected a name, found 5")  # type: ignore[arg-type]
    refused(
        lambda: make(trained_totalvi, "unknown", "cell_type", n_layers=2, zzz=1),
        "Expected options out of .*use_batch_norm.*, found n_layers, zzz; leave these out",
    )
    with pytest.warns(
        UserWarning, match="seed, use_batch_norm: left aside, since the trained totalVI model has chosen"
    ):
        make(trained_totalvi, "unknown", "cell_type", use_batch_norm="both", seed=7)


# Training


@named(
    [
        *(
            ({name: value}, f"Expected training options .* {name}={value!r}.*; mend that one, or leave it out")
            for name, value in (
                ("accelerator", "bogus"),
                ("devices", "x"),
                ("devices", 1.5),
                ("limit_val_batches", "x"),
                ("max_time", 5),
                ("profiler", "zz"),
                ("fast_dev_run", "x"),
                ("plugins", "x"),
            )
        ),
        ({"devices": 0}, "devices: expected a whole number of at least 1, found 0"),
        ({"num_nodes": 0}, "num_nodes: expected a whole number of at least 1, found 0"),
        ({"num_nodes": 2}, "num_nodes: expected the environment .*MASTER_ADDR.* found no MASTER_ADDR, MASTER_PORT"),
        ({"strategy": 5}, "strategy: expected str or Strategy, found int"),
        *(
            ({"strategy": value}, f"strategy: expected 'auto' or 'ddp', .* found '{value}'; choose one of these")
            for value in ("zz", "ddp_spawn", "ddp_notebook", "fsdp", "deepspeed_stage_2")
        ),
        (
            {"devices": 2, "batch_size": 3, "accelerator": "cpu"},
            "batch_size: expected 2 cells .* found 3",
        ),
        ({"use_distributed_sampler": True}, "use_distributed_sampler: expected False, found True"),
        *(({"callbacks": value}, "callbacks: expected a list of callbacks, found") for value in ("x", 5)),
        ({"callbacks": ["x"]}, "callbacks: expected Callback, found str"),
        ({"logger": "x"}, "logger: expected bool or Logger, found str"),
        *(({"max_steps": value}, "max_steps: expected a whole number of at least 1") for value in (0, -7, "x")),
        *(({"max_epochs": value}, "max_epochs: expected a whole number of at least 0") for value in (-1, "x", True)),
        ({"datasplitter_kwargs": {"num_workers": -1}}, "num_workers: expected a whole number of at least 0, found -1"),
        ({"datasplitter_kwargs": 5}, "Expected options in a dictionary, found"),
        ({"resume_folder": 5}, "resume_folder: expected a path, found 5"),
        ({"resume_folder": __file__}, "resume_folder: expected a folder, .*found .*; choose another"),
        ({"resume_folder": Path(__file__) / "x"}, "resume_folder: expected a folder, .*found .*; choose another"),
        *(
            ({"train_size": value}, "train_size: expected a number above 0 and at most 1")
            for value in ("x", True, float("nan"))
        ),
        ({"validation_size": "x"}, "validation_size: expected a number of at least 0"),
        ({"shuffle_set_split": "no"}, "shuffle_set_split: expected True or False"),
        ({"external_indexing": 5}, "external_indexing: expected a list of lists of cells, found 5"),
        ({"external_indexing": [5]}, r"external_indexing: expected one list of cells, found an array of shape \(\)"),
        ({"external_indexing": [[[0, 1], [2, 3]]]}, "external_indexing: expected one list of cells"),
        ({"progress_bar_refresh_rate": "x"}, "progress_bar_refresh_rate: expected a whole number of at least 0"),
        ({"augmentation": "x"}, "augmentation: expected Augmentation, found str"),
        ({"plan_kwargs": {"optimizer": "Custom", "optimizer_creator": 5}}, "optimizer_creator: expected a function of"),
        ({"plan_kwargs": {"early_stopping_monitor": ["x"]}}, "early_stopping_monitor: expected one of elbo_train"),
    ]
)
def test_training(model: TOTALANVI, arguments: dict[str, Any], message: str) -> None:
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    refused(lambda: model.train(**{"max_epochs": 1, **FAST, **arguments}), f"^{message}")
    assert all(value.equal(before[name]) for name, value in model.module.state_dict().items())
