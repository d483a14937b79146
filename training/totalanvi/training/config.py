"""Options of the model and of its training, each written down once."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from totalanvi.training.errors import ArgumentError
from totalanvi.training.layers import NormKind

__all__ = ["Augmentation", "Dispersion", "ModelConfig", "TrainingConfig"]

Dispersion = Literal["gene", "gene-batch", "gene-label", "protein", "protein-batch", "protein-label"]


def _require_range(options: object, names: tuple[str, ...], least: float, most: float = math.inf) -> None:
    """Refuse options outside ``[least, most]``; options that are `None` are not asked for."""
    for name in names:
        value = getattr(options, name)
        if value is not None and not least <= value <= most:
            allowed = f"at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
            raise ArgumentError(f"{name}: expected {allowed}, found {value}; give such a number.")


def _probabilities(name: str, values: Iterable[float]) -> tuple[float, ...]:
    """Probabilities that sum to 1; JSON and NumPy bring them as lists and arrays."""
    probabilities = tuple(float(value) for value in values)
    if not probabilities or min(probabilities) <= 0 or abs(sum(probabilities) - 1) > 1e-4:
        raise ArgumentError(
            f"{name}: expected a probability above 0 for each label, 1 in all, found {probabilities}; scale them."
        )
    return probabilities


@dataclass(frozen=True)
class Augmentation:
    """What is hidden from the encoder while it trains, because queries will come without it.

    Panels and counts are hidden in a second view of each mini-batch, see `TotalVAE.hidden_view`; the batch in both.

    Parameters
    ----------
    no_panel
        Share of cells whose whole protein panel is hidden.
    part_panel
        Share of cells of whose panel a random part is hidden.
    unknown_batch
        Share of cells whose batch is hidden.
    thinning
        Share of cells whose RNA counts are thinned binomially, to a random depth between ``thinning_floor`` and 1.
    thinning_floor
        Least share of the counts that thinning leaves.
    """

    no_panel: float = 0.6
    part_panel: float = 0.2
    unknown_batch: float = 0.5
    thinning: float = 0.0
    thinning_floor: float = 0.25

    def __post_init__(self) -> None:
        _require_range(self, ("no_panel", "part_panel", "unknown_batch", "thinning", "thinning_floor"), 0, 1)
        if self.no_panel + self.part_panel > 1 + 1e-9:
            raise ArgumentError(
                "no_panel and part_panel: expected shares of the same cells, 1 in all at most, found "
                f"{self.no_panel} and {self.part_panel}; lower one of them."
            )


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
        ``"layer"`` (the default), ``"batch"`` (as the original), ``"batch+layer"`` for both, or ``"none"``.
    gene_likelihood
        ``"nb"`` or ``"zinb"``.
    gene_dispersion
        Whether θ of a gene is one (``"gene"``), or differs between batches or labels (``"gene-batch"``,
        ``"gene-label"``).
    protein_dispersion
        The same of proteins: ``"protein"``, ``"protein-batch"`` or ``"protein-label"``.
    latent_distribution
        ``"normal"``, or ``"ln"`` for the logistic normal (softmax of a normal).
    encode_covariates
        Whether the encoder sees the batch and the covariates. A query's batch is unknown to it either way.
    log_variational
        Whether the encoder takes the logarithm of scaled counts.
    protein_mean
        What a cell's protein counts are scaled by for the encoder: the mean over its ``"measured"`` proteins, or over
        ``"all"`` (as the original, to which a protein that is not measured is a zero).
    background_activation
        ``"softplus"`` or ``"exp"``: what makes the scale of the log background positive. Models of scvi-tools before
        1.2 have the latter.
    use_observed_lib_size
        Whether the library size ℓ is the observed total count; otherwise it is inferred. With a size factor, neither.
    linear_classifier
        Whether the classifier is one linear layer instead of a multi-layer perceptron.
    classifier_n_layers, classifier_n_hidden, classifier_dropout_rate
        The classifier's hidden layers, their width and their dropout; those of the encoder by default.
    label_prior
        ``"uniform"``, ``"learned"`` for a learned π, or π itself: a probability for each label.
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
    gene_dispersion: Dispersion = "gene"
    protein_dispersion: Dispersion = "protein"
    latent_distribution: Literal["normal", "ln"] = "normal"
    encode_covariates: bool = True
    log_variational: bool = True
    protein_mean: Literal["measured", "all"] = "measured"
    background_activation: Literal["softplus", "exp"] = "softplus"
    use_observed_lib_size: bool = True
    linear_classifier: bool = False
    classifier_n_layers: int | None = None
    classifier_n_hidden: int | None = None
    classifier_dropout_rate: float | None = None
    label_prior: Literal["uniform", "learned"] | tuple[float, ...] = "uniform"
    n_enumerated_labels: int = 4

    def __post_init__(self) -> None:
        sizes = ("n_latent", "n_hidden", "n_layers_encoder", "n_layers_decoder", "n_enumerated_labels")
        _require_range(self, (*sizes, "classifier_n_hidden"), 1)
        _require_range(self, ("classifier_n_layers",), 0)
        _require_range(self, ("dropout_rate_encoder", "dropout_rate_decoder", "classifier_dropout_rate"), 0, 1)
        if not isinstance(self.label_prior, str):
            object.__setattr__(self, "label_prior", _probabilities("label_prior", self.label_prior))
        allowed: dict[str, tuple[object, ...]] = {
            "gene_likelihood": ("nb", "zinb"),
            "gene_dispersion": ("gene", "gene-batch", "gene-label"),
            "protein_dispersion": ("protein", "protein-batch", "protein-label"),
            "latent_distribution": ("normal", "ln"),
            "protein_mean": ("measured", "all"),
            "background_activation": ("softplus", "exp"),
            "norm_encoder": get_args(NormKind),
            "norm_decoder": get_args(NormKind),
        }
        if isinstance(self.label_prior, str):
            allowed["label_prior"] = ("uniform", "learned")
        for name, values in allowed.items():
            value = getattr(self, name)
            if value not in values:
                raise ArgumentError(
                    f"{name}: expected one of {', '.join(map(str, values))}, found {value!r}; choose one of them."
                )

    def to_dict(self) -> dict[str, Any]:
        """Return the options as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained.

    Parameters
    ----------
    max_epochs
        Most passes over the training cells.
    batch_size
        Cells in a mini-batch.
    lr, weight_decay, adam_eps
        Learning rate, weight decay and ε of Adam.
    n_epochs_kl_warmup, n_steps_kl_warmup
        Over how many epochs, or else steps, the weight of the divergences rises from 0 to ``max_kl_weight``.
    max_kl_weight
        Weight of the divergences after warm-up.
    pro_recons_weight
        Weight of the protein likelihood.
    warm_up_proteins
        Whether the weight of the divergences also multiplies the protein likelihood, as in scvi-tools. Short runs then
        hardly train proteins.
    classification_ratio
        α, the weight of the labelled cells' cross-entropy.
    adversarial_classifier
        Whether a classifier that tells batches apart in the latent space is trained to be fooled.
    early_stopping, early_stopping_patience
        Whether to stop once the validation ELBO has not improved for so many epochs.
    reduce_lr_on_plateau, lr_factor, lr_patience, lr_min
        Multiply the learning rate by ``lr_factor`` once the validation ELBO has not improved for ``lr_patience``
        epochs.
    cool_down
        Share of the epochs, the last ones, over which the learning rate falls to nearly nothing.
    gradient_clip
        Largest norm of the gradient.
    augmentation
        What a second view of each mini-batch hides from the encoder; no second view when `None`.
    matching_weight
        Weight of the divergence between the two views' posteriors.
    seed
        Seeds the order of cells, dropout and posterior draws.
    """

    max_epochs: int = 400
    batch_size: int = 256
    lr: float = 4e-3
    weight_decay: float = 1e-6
    adam_eps: float = 0.01
    n_epochs_kl_warmup: int | None = None
    n_steps_kl_warmup: int | None = None
    max_kl_weight: float = 1.0
    pro_recons_weight: float = 1.0
    warm_up_proteins: bool = False
    classification_ratio: float = 50.0
    adversarial_classifier: bool = False
    early_stopping: bool = True
    early_stopping_patience: int = 45
    reduce_lr_on_plateau: bool = True
    lr_factor: float = 0.6
    lr_patience: int = 30
    lr_min: float = 0.0
    cool_down: float = 0.4
    gradient_clip: float = 100.0
    augmentation: Augmentation | None = Augmentation()
    matching_weight: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        _require_range(self, ("max_epochs", "batch_size"), 1)
        _require_range(self, ("cool_down",), 0, 1)
        patience = ("early_stopping_patience", "lr_patience", "n_epochs_kl_warmup", "n_steps_kl_warmup", "seed")
        weights = ("max_kl_weight", "pro_recons_weight", "classification_ratio", "matching_weight", "weight_decay")
        _require_range(self, (*patience, *weights), 0)
        if not 0 < self.lr < math.inf:
            raise ArgumentError(f"lr: expected a number above 0, found {self.lr}; the default is 0.004.")

    def to_dict(self) -> dict[str, Any]:
        """Return the options as plain JSON values."""
        return asdict(self)
