"""Options out of range are refused where they are given, by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from totalanvi.training import ArgumentError, Augmentation, ModelConfig, TrainingConfig


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (ModelConfig, {"n_latent": 0}, "n_latent: expected a whole number of at least 1, found 0; give"),
        (ModelConfig, {"n_layers_decoder": -1}, "n_layers_decoder: expected a whole number of at least 1, found -1"),
        (ModelConfig, {"dropout_rate_encoder": 1.5}, r"dropout_rate_encoder: expected a number .*, found 1\.5"),
        (ModelConfig, {"gene_likelihood": "poisson"}, "expected one of nb, zinb, found 'poisson'; choose one"),
        (
            ModelConfig,
            {"norm_encoder": "group"},
            r"expected one of batch, layer, batch\+layer, none, found 'group'",
        ),
        (TrainingConfig, {"max_epochs": -1}, "max_epochs: expected a whole number of at least 0, found -1"),
        (TrainingConfig, {"lr": 0.0}, r"lr: expected a number above 0, found 0\.0"),
        (TrainingConfig, {"lr": float("nan")}, "lr: expected a number above 0, found nan"),
        (TrainingConfig, {"seed": -1}, "seed: expected a whole number of at least 0 .*, found -1"),
        (TrainingConfig, {"classification_ratio": -1.0}, "classification_ratio: expected a number of .*, found -1"),
        (TrainingConfig, {"n_epochs_kl_warmup": -5}, "n_epochs_kl_warmup: expected a number of at least 0, found -5"),
        (TrainingConfig, {"n_samples_per_label": 0}, "n_samples_per_label: expected a whole number .*, found 0"),
        (
            TrainingConfig,
            {"n_samples_per_label": 2.5},
            r"n_samples_per_label: expected a whole number of at least 1, found 2\.5; give such",
        ),
        (TrainingConfig, {"batch_size": "many"}, "batch_size: expected a whole number of at least 1, found 'many'"),
        (TrainingConfig, {"max_epochs": float("inf")}, "max_epochs: expected a whole number of at least 0, found inf"),
        (TrainingConfig, {"lr_factor": 1.0}, r"lr_factor: expected a number above 0 and below 1, found 1\.0; the"),
        (TrainingConfig, {"optimizer": "SGD"}, "optimizer: expected one of Adam, AdamW, Custom, found 'SGD'"),
        (TrainingConfig, {"optimizer": "Custom"}, "found None with 'Custom'; give both or none"),
        (
            TrainingConfig,
            {"optimizer_creator": max},
            "expected a function together with 'Custom' and with nothing else",
        ),
        (TrainingConfig, {"key_adversarial": "label"}, "key_adversarial: expected one of batch, panel, found 'label'"),
        (TrainingConfig, {"scale_adversarial_loss": "none"}, "scale_adversarial_loss: expected a number .* 'none'"),
        (TrainingConfig, {"lr_scheduler_metric": "loss"}, "lr_scheduler_metric: expected one of elbo_validation, .*"),
        (TrainingConfig, {"early_stopping_monitor": "loss"}, "early_stopping_monitor: expected one of elbo_train, .*"),
        (TrainingConfig, {"early_stopping_mode": "up"}, "early_stopping_mode: expected one of min, max, found 'up'"),
        (TrainingConfig, {"adversarial_classifier": 3}, "adversarial_classifier: expected True or False, found 3"),
        (
            TrainingConfig,
            {"min_kl_weight": 0.7, "max_kl_weight": 0.5},
            r"min_kl_weight: expected max_kl_weight, 0\.5, at most, found 0\.7; lower it",
        ),
        (Augmentation, {"no_panel": 1.1}, r"no_panel: expected a number of at least 0 and at most 1, found 1\.1"),
        (Augmentation, {"thinning_floor": float("nan")}, "thinning_floor: expected a number .*, found nan"),
        (
            Augmentation,
            {"no_panel": 0.7, "part_panel": 0.6},
            r"expected shares of the same cells, 1 in all at most, found 0\.7 and 0\.6; lower one",
        ),
    ],
)
def test_options_out_of_range(kind: type, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        kind(**options)


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(),
        TrainingConfig(),
        TrainingConfig(augmentation=None),
        TrainingConfig(optimizer="Custom", optimizer_creator=lambda weights: weights),
    ],
)
def test_options_are_plain_json(config: Any) -> None:
    assert json.loads(json.dumps(config.to_dict())) == config.to_dict()


def test_whole_numbers_may_be_written_with_a_point() -> None:
    config = TrainingConfig(max_epochs=3.0, n_samples_per_label=10.0)
    assert (config.max_epochs, config.n_samples_per_label) == (3, 10)
    assert type(config.max_epochs) is int
