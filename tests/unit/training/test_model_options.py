"""The keyword arguments that users of scvi-tools know, and what they become."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.support.tiny_model import tiny_batch, tiny_model

from totalanvi.training.errors import ArgumentError
from totalanvi.training.network.config import ModelConfig
from totalanvi.training.network.model_options import model_config


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ("layer", "layer")),
        ({"use_batch_norm": "decoder"}, ("none", "batch")),
        ({"use_batch_norm": "both"}, ("batch", "batch")),
        ({"use_layer_norm": "both", "use_batch_norm": "none"}, ("layer", "layer")),
        ({"use_layer_norm": "encoder", "use_batch_norm": "both"}, ("batch+layer", "batch")),
        ({"use_layer_norm": "none"}, ("none", "none")),
    ],
)
def test_norms(options: dict[str, Any], expected: tuple[str, str]) -> None:
    config = model_config(**options)
    assert (config.norm_encoder, config.norm_decoder) == expected


def test_options_inside_dictionaries() -> None:
    config = model_config(
        classifier_parameters={"n_layers": 1, "n_hidden": np.int64(5), "dropout_rate": 0.3, "logits": True},
        extra_decoder_kwargs={"activation_function_bg": "exp"},
        extra_encoder_kwargs=None,
        y_prior=torch.tensor([[0.25, 0.25, 0.5]]),
    )
    assert config == ModelConfig(
        classifier_n_layers=1,
        classifier_n_hidden=5,
        classifier_dropout_rate=0.3,
        background_activation="exp",
        label_prior=(0.25, 0.25, 0.5),
    )
    assert model_config(**config.to_dict()) == config, "what a checkpoint holds comes back"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"use_batch_norm": "all"}, "use_batch_norm: expected one of encoder, decoder, none, both, found 'all'"),
        ({"classifier_parameters": {"logits": False}}, "classifier_parameters: expected options out of n_layers"),
        ({"extra_encoder_kwargs": {"depth": 3}}, "extra_encoder_kwargs: expected options out of none, found 'depth'"),
        ({"labels_groups": [0]}, "found labels_groups; leave these out"),
        ({"y_prior": [0.5, 0.1]}, "label_prior: expected a probability above 0 for each label, 1 in all"),
        ({"gene_dispersion": "gene-cell"}, "gene_dispersion: expected one of gene, gene-batch, gene-label"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        model_config(**options)


def test_the_classifier_that_was_asked_for() -> None:
    model = tiny_model(3, classifier_n_layers=2, classifier_n_hidden=5, classifier_dropout_rate=0.7)
    assert [linear.out_features for linear in model.classifier_trunk.linears] == [5, 5]
    assert model.classifier_trunk.dropout.p == 0.7
    assert model.classifier.in_features == 5
    linear = tiny_model(3, linear_classifier=True)
    assert not linear.classifier_trunk.linears
    assert linear.classifier.in_features == 3


def test_a_given_prior_of_the_labels() -> None:
    prior = (0.7, 0.2, 0.1)
    model = tiny_model(3, label_prior=prior)
    assert torch.allclose(model.label_prior_logits.softmax(dim=0), torch.tensor(prior))
    assert not model.label_prior_logits.requires_grad
    batch = tiny_batch(unlabelled=0.0)
    assert torch.allclose(model(batch).kl_label, -torch.tensor(prior)[batch.label].log())
    with pytest.raises(ArgumentError, match="label_prior: expected a probability for each of 4 labels, found 3"):
        tiny_model(4, label_prior=prior)


def test_the_logarithm_and_the_mean_that_the_encoder_takes() -> None:
    batch = tiny_batch()
    plain = {name: tiny_model(3, **options) for name, options in VARIANTS.items()}
    for name, model in plain.items():
        model.load_state_dict(plain["default"].state_dict())
        moved = not torch.allclose(model(batch).posterior.mean, plain["default"](batch).posterior.mean)
        assert moved is (name != "default"), name
    everything = batch.measured.all(dim=1)
    assert 0 < everything.sum() < len(everything)
    means = [plain[name](batch).posterior.mean for name in ("default", "all")]
    assert torch.allclose(means[0][everything], means[1][everything]), "they differ where proteins are missing alone"


VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "no logarithm": {"log_variational": False},
    "all": {"protein_mean": "all"},
}


def test_both_norms_at_once() -> None:
    model = tiny_model(norm_encoder="batch+layer", norm_decoder="batch+layer").train()
    terms = model(tiny_batch())
    terms.loss().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    running = model.encoder.trunk.norms[0][0].running_mean
    assert running.abs().sum() > 0
