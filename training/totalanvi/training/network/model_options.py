"""From the keyword arguments that users know to a `ModelConfig`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from totalanvi.training.checks import as_choice, require_type
from totalanvi.training.errors import ArgumentError
from totalanvi.training.network.config import ModelConfig
from totalanvi.training.network.layers import NormKind

__all__ = ["CLASSIFIER_LIKE_ENCODER", "OPTIONS", "model_config"]

CLASSIFIER_LIKE_ENCODER: dict[str, Any] = {"classifier_n_layers": None, "classifier_n_hidden": None}
"""What options meant that say nothing of the classifier's layers: those of scvi-tools, and of our first checkpoints."""

_PLACES = ("encoder", "decoder", "none", "both")
_CLASSIFIER = {
    "n_layers": "classifier_n_layers",
    "n_hidden": "classifier_n_hidden",
    "dropout_rate": "classifier_dropout_rate",
}
_OWN = {field.name for field in fields(ModelConfig)}
OPTIONS = frozenset(_OWN) | {
    "classifier_parameters",
    "extra_decoder_kwargs",
    "extra_encoder_kwargs",
    "use_batch_norm",
    "use_layer_norm",
    "y_prior",
}
"""Names of all options that `model_config` knows."""


def model_config(**options: Any) -> ModelConfig:
    """Model options from keyword arguments.

    Besides those of `ModelConfig` these are known, as scripts written for scvi-tools give them: ``use_batch_norm`` and
    ``use_layer_norm`` (``"encoder"``, ``"decoder"``, ``"both"`` or ``"none"``; with one of the two given, the other is
    ``"none"``), ``classifier_parameters`` (``n_layers``, ``n_hidden``, ``dropout_rate``), ``y_prior`` (as
    ``label_prior``) and ``extra_decoder_kwargs`` (``activation_function_bg``).

    Raises
    ------
    ArgumentError
        For options that are unknown, by name, or out of range.

    Examples
    --------
    >>> model_config(use_batch_norm="decoder").norm_decoder
    'batch'
    """
    plain = {name: _plain(value) for name, value in options.items()}
    plain |= _norms(plain.pop("use_batch_norm", None), plain.pop("use_layer_norm", None))
    plain |= _renamed("classifier_parameters", plain.pop("classifier_parameters", None), _CLASSIFIER, {"logits": True})
    extra = plain.pop("extra_decoder_kwargs", None)
    plain |= _renamed("extra_decoder_kwargs", extra, {"activation_function_bg": "background_activation"}, {})
    plain |= _renamed("extra_encoder_kwargs", plain.pop("extra_encoder_kwargs", None), {}, {})
    prior = plain.pop("y_prior", None)
    if prior is not None:
        plain["label_prior"] = prior if isinstance(prior, str) else np.asarray(prior).ravel().tolist()
    if unknown := plain.keys() - _OWN:
        raise ArgumentError(
            f"Expected model options out of {', '.join(sorted(_OWN))}, found {', '.join(sorted(unknown))}; "
            "leave these out."
        )
    return ModelConfig(**plain)


def _plain(value: Any) -> Any:
    """NumPy's numbers have no place in the checkpoint's JSON."""
    return value.item() if isinstance(value, np.generic) else value


def _norms(batch: str | None, layer: str | None) -> dict[str, NormKind]:
    if batch is None and layer is None:
        return {}
    for name, place in (("use_batch_norm", batch), ("use_layer_norm", layer)):
        if place is not None:
            as_choice(name, place, _PLACES)

    def kind(part: str) -> NormKind:
        with_batch, with_layer = batch in (part, "both"), layer in (part, "both")
        if with_batch and with_layer:
            return "batch+layer"
        return "batch" if with_batch else "layer" if with_layer else "none"

    return {"norm_encoder": kind("encoder"), "norm_decoder": kind("decoder")}


def _renamed(
    argument: str, given: Mapping[str, Any] | None, names: Mapping[str, str], fixed: Mapping[str, Any]
) -> dict[str, Any]:
    """Options inside a dictionary under their own names; those that are fixed may be repeated, not changed."""
    given = {} if given is None else given
    require_type(argument, given, Mapping, "give options by name")
    result = {}
    for name, value in given.items():
        if name in fixed and value == fixed[name]:
            continue
        if name not in names:
            allowed = ", ".join(names) or "none"
            raise ArgumentError(f"{argument}: expected options out of {allowed}, found {name!r}; leave it out.")
        result[names[name]] = _plain(value)
    return result
