"""From the arguments of scvi-tools' classes to our `ModelConfig`."""

from __future__ import annotations

from typing import Any

from totalanvi.training.errors import ArgumentError, CheckpointError
from totalanvi.training.network.config import ModelConfig
from totalanvi.training.network.model_options import CLASSIFIER_LIKE_ENCODER, model_config
from totalanvi.training.scvi_import.saves import ScviSave
from totalanvi.training.scvi_import.weights import EFFICIENCY

__all__ = ["config_of"]

_DEFAULTS: dict[str, Any] = {
    "use_batch_norm": "both",
    "use_layer_norm": "none",
    "protein_mean": "all",
    **CLASSIFIER_LIKE_ENCODER,
}
"""What is so there unless an argument says otherwise, and is not here."""
_NOT_OF_THE_NETWORK = ("empirical_protein_background_prior", "override_missing_proteins", "extra_payload_autotune")
_FIRST_WITH_SOFTPLUS = (1, 2)


def config_of(save: ScviSave) -> ModelConfig:
    """Architecture of a saved model.

    Raises
    ------
    CheckpointError
        When the model has an option that ours does not have.
    """
    options = {name: value for name, value in save.options.items() if name not in _NOT_OF_THE_NETWORK}
    if _version(save) < _FIRST_WITH_SOFTPLUS:
        options["background_activation"] = "exp"
    # One version brought both.
    options["scale_inputs"] = EFFICIENCY in save.weights
    try:
        config = model_config(**_DEFAULTS | options)
    except ArgumentError as error:
        raise CheckpointError(
            f"Expected a {save.kind} whose options totalanvi has too, found another: {error}"
        ) from error
    if save.kind == "TOTALANVI" and config.latent_distribution == "ln":
        raise CheckpointError(
            "Expected a TOTALANVI with latent_distribution='normal', found 'ln', with which the classifier of "
            "scvi-tools sees z before its transformation, and ours after it; train this model anew."
        )
    return config


def _version(save: ScviSave) -> tuple[int, int]:
    try:
        major, minor, *_ = save.version.split(".")
        return int(major), int(minor)
    except ValueError as error:
        raise CheckpointError(
            f"Expected a version of scvi-tools such as 1.4.2 in the save, found {save.version!r}; save the model anew."
        ) from error
