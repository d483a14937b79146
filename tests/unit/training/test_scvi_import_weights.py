"""Options and weights of a saved model: what each becomes, and what ours cannot take."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.reference.saves import SAVES, Save, save_named
from torch import Tensor

from totalanvi.training import CheckpointError
from totalanvi.training.network.config import ModelConfig
from totalanvi.training.scvi_import.names import registry_of
from totalanvi.training.scvi_import.options import config_of
from totalanvi.training.scvi_import.saves import ScviSave, read_save
from totalanvi.training.scvi_import.weights import translate_weights


def config(name: str) -> ModelConfig:
    return config_of(read_save(save_named(name).folder))


def weights(name: str) -> tuple[ScviSave, dict[str, Tensor]]:
    save = read_save(save_named(name).folder)
    return save, translate_weights(save.weights, registry_of(save).dimensions, config_of(save))


# Options


def test_what_scvi_tools_does_by_default_is_said_to_ours() -> None:
    found = config("totalvi")
    assert (found.norm_encoder, found.norm_decoder) == ("batch", "batch")
    assert found.protein_mean == "all"
    assert found.background_activation == "softplus"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("totalvi_layer_norm", {"norm_encoder": "layer", "n_layers_encoder": 3, "n_layers_decoder": 2}),
        ("totalvi_both_norms", {"norm_encoder": "batch+layer", "norm_decoder": "batch", "log_variational": False}),
        ("totalvi_zinb", {"gene_likelihood": "zinb", "gene_dispersion": "gene-batch"}),
        ("totalvi_library", {"use_observed_lib_size": False}),
        ("totalvi_unencoded", {"encode_covariates": False}),
        ("totalvi_ln", {"latent_distribution": "ln"}),
        ("totalanvi_linear", {"linear_classifier": True}),
        ("totalanvi_classifier", {"classifier_n_layers": 1, "classifier_n_hidden": 5, "norm_decoder": "batch"}),
        ("totalanvi_exp", {"background_activation": "exp", "norm_decoder": "batch+layer"}),
    ],
)
def test_options_keep_their_meaning(name: str, options: dict[str, Any]) -> None:
    found = config(name).to_dict()
    assert {option: found[option] for option in options} == options


def test_the_prior_of_the_labels_is_kept() -> None:
    assert config("totalanvi_classifier").label_prior == pytest.approx((0.5, 0.2, 0.3))


def test_the_training_of_the_options_is_left_out() -> None:
    save = read_save(save_named("totalvi_panels").folder)
    assert save.options["empirical_protein_background_prior"]
    assert "empirical_protein_background_prior" not in config_of(save).to_dict()


def refused(name: str, **options: Any) -> ScviSave:
    save = read_save(save_named(name).folder)
    return replace(save, options=save.options | options)


@pytest.mark.parametrize(
    ("save", "expected"),
    [
        (refused("totalvi", gene_dispersion="gene-cell"), "gene_dispersion: expected .*, found 'gene-cell'"),
        (refused("totalvi", made_up=1), "found made_up; leave these out"),
        (refused("totalanvi", latent_distribution="ln"), "latent_distribution='normal', found 'ln'.*; train this"),
        (replace(refused("totalvi"), version="dev"), "Expected a version of scvi-tools such as 1.4.2.*'dev'; save"),
    ],
)
def test_options_that_ours_lacks_are_refused(save: ScviSave, expected: str) -> None:
    with pytest.raises(CheckpointError, match=expected):
        config_of(save)


@pytest.mark.parametrize("save", SAVES, ids=str)
def test_what_changed_between_versions_is_said_to_ours(save: Save) -> None:
    read = read_save(save.folder)
    if save.name == "totalanvi_ln":
        read = replace(read, options=read.options | {"latent_distribution": "normal"})
    found = config_of(read)
    assert found.scale_inputs == (save.version >= "1.3")
    exponential = save.version < "1.2" or save.name == "totalanvi_exp"
    assert found.background_activation == ("exp" if exponential else "softplus")


# Weights


def test_the_first_layer_is_taken_apart() -> None:
    save, ours = weights("totalanvi")
    theirs = save.weights["encoder.encoder.fc_layers.Layer 0.0.weight"]
    assert torch.equal(ours["encoder.rna_in.weight"], theirs[:, :25])
    first = ours["encoder.trunk.linears.0.weight"]
    assert torch.equal(first[:, :6], theirs[:, 25:31])
    assert not first[:, 6:12].any()  # whether a protein was measured
    assert first.shape[1] == 14  # two batches


def test_a_batch_that_the_encoder_does_not_know_is_the_average_one() -> None:
    save, ours = weights("totalanvi")
    for i in range(2):
        theirs = save.weights[f"encoder.encoder.fc_layers.Layer {i}.0.weight"][:, -2:]
        shift = save.weights[f"encoder.encoder.fc_layers.Layer {i}.0.bias"]
        weight, bias = ours[f"encoder.trunk.linears.{i}.weight"][:, -2:], ours[f"encoder.trunk.linears.{i}.bias"]
        torch.testing.assert_close(bias, shift + theirs.mean(dim=1))
        torch.testing.assert_close(weight + bias[:, None], theirs + shift[:, None])


def test_translating_changes_nothing_of_the_save() -> None:
    save = read_save(save_named("totalanvi").folder)
    before = {name: weight.clone() for name, weight in save.weights.items()}
    translate_weights(save.weights, registry_of(save).dimensions, config_of(save))
    assert all(torch.equal(save.weights[name], weight) for name, weight in before.items())


def test_a_covariate_with_one_category_weighs_nothing() -> None:
    save, ours = weights("totalvi_covariates")
    theirs = save.weights["decoder.px_scale_decoder.fc_layers.Layer 0.0.weight"]
    head = ours["gene_decoder.log_scale.weight"]
    # One batch, sex (2), site (1), donor (3): batch and site have no columns there.
    assert head.shape[1] == theirs.shape[1] + 2
    batch, sex, site, donor = head[:, -7:].split([1, 2, 1, 3], dim=1)
    assert not batch.any()
    assert not site.any()
    assert torch.equal(torch.cat((sex, donor), dim=1), theirs[:, -5:])


def test_extra_zeros_and_mixing_start_from_one_trunk() -> None:
    _, ours = weights("totalvi_zinb")
    dropout = {
        name.removeprefix("gene_decoder.dropout_trunk."): w for name, w in ours.items() if "dropout_trunk" in name
    }
    assert dropout
    for name, weight in dropout.items():
        assert torch.equal(weight, ours[f"protein_decoder.mixing_trunk.{name}"])


def test_layer_norm_neither_scales_nor_shifts() -> None:
    _, ours = weights("totalvi_layer_norm")
    norms = {name: weight for name, weight in ours.items() if ".norms." in name}
    assert len(norms) == 2 * (3 + 4 * 2)  # of the encoder, and of four trunks
    assert all(torch.equal(w, torch.full_like(w, float(name.endswith("weight")))) for name, w in norms.items())


def test_a_model_before_efficiencies_has_none() -> None:
    save, _ = weights("totalvi")
    without = {name: weight for name, weight in save.weights.items() if "efficiency" not in name}
    ours = translate_weights(without, registry_of(save).dimensions, config_of(save))
    assert torch.equal(ours["log_per_batch_efficiency"], torch.zeros(6, 2))
