"""Options of the model, each written down once; those of training are in `training_config`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from totalanvi.training.errors import ArgumentError
from totalanvi.training.layers import NormKind
from totalanvi.training.ranges import require_range
from totalanvi.training.training_config import Augmentation, TrainingConfig

__all__ = ["Augmentation", "ModelConfig", "TrainingConfig"]


@dataclass(frozen=True)
class ModelConfig:
    """Architecture of totalVI and TotalANVI.

    Parameters
    ----------
    n_latent
        Dimensions of the latent space.
    n_hidden
        Width of every hidden layer.
    n_layers_encoder, n_layers_decoder
        Hidden layers of the encoders (and the classifier) and of the decoders.
    dropout_rate_encoder, dropout_rate_decoder
        Dropout rates.
    norm_encoder, norm_decoder
        ``"layer"`` (the default), ``"batch"`` (as the original) or ``"none"``.
    gene_likelihood
        ``"nb"`` or ``"zinb"``.
    latent_distribution
        ``"normal"``, or ``"ln"`` for the logistic normal (softmax of a normal).
    encode_covariates
        Whether the encoder sees the batch. A query's batch is unknown to it either way.
    use_observed_lib_size
        Whether the library size ℓ is the observed total count; otherwise it is inferred.
    linear_classifier
        Whether the classifier is one linear layer instead of a multi-layer perceptron.
    label_prior
        ``"uniform"``, or ``"learned"`` for a learned π.
    n_enumerated_labels
        Labels with the highest q(c | z) that an unlabelled cell is summed over exactly; one draw stands for the rest,
        without bias. With no more labels than this plus one, all are summed.
    """

    n_latent: int = 20
    n_hidden: int = 256
    n_layers_encoder: int = 2
    n_layers_decoder: int = 1
    dropout_rate_encoder: float = 0.2
    dropout_rate_decoder: float = 0.2
    norm_encoder: NormKind = "layer"
    norm_decoder: NormKind = "layer"
    gene_likelihood: Literal["nb", "zinb"] = "nb"
    latent_distribution: Literal["normal", "ln"] = "normal"
    encode_covariates: bool = True
    use_observed_lib_size: bool = True
    linear_classifier: bool = False
    label_prior: Literal["uniform", "learned"] = "uniform"
    n_enumerated_labels: int = 4

    def __post_init__(self) -> None:
        sizes = ("n_latent", "n_hidden", "n_layers_encoder", "n_layers_decoder", "n_enumerated_labels")
        require_range(self, sizes, 1)
        require_range(self, ("dropout_rate_encoder", "dropout_rate_decoder"), 0, 1)
        allowed = {
            "gene_likelihood": ("nb", "zinb"),
            "latent_distribution": ("normal", "ln"),
            "norm_encoder": ("layer", "batch", "none"),
            "norm_decoder": ("layer", "batch", "none"),
            "label_prior": ("uniform", "learned"),
        }
        for name, values in allowed.items():
            value = getattr(self, name)
            if value not in values:
                raise ArgumentError(
                    f"{name}: expected one of {', '.join(values)}, found {value!r}; choose one of them."
                )

    def to_dict(self) -> dict[str, Any]:
        """Return the options as plain JSON values."""
        return asdict(self)
