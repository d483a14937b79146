"""Options of the model, each written down once; those of training are in `fitting.training_config`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from totalanvi.training.checks import as_names, as_number
from totalanvi.training.errors import ArgumentError
from totalanvi.training.network.layers import NormKind
from totalanvi.training.option_checks import require_choice, require_flag, require_range, require_whole

__all__ = ["Dispersion", "ModelConfig"]

Dispersion = Literal["gene", "gene-batch", "gene-label", "protein", "protein-batch", "protein-label"]


def _probabilities(name: str, values: Iterable[float]) -> tuple[float, ...]:
    """Probabilities that sum to 1; JSON and NumPy bring them as lists and arrays."""
    probabilities = tuple(as_number(name, value, above=0, most=1) for value in as_names(name, values, "probabilities"))
    if abs(sum(probabilities) - 1) > 1e-4:
        raise ArgumentError(
            f"{name}: expected a probability above 0 for each label, 1 in all, found {probabilities}; scale them."
        )
    return probabilities


@dataclass(frozen=True)
class ModelConfig:
    """Architecture of totalVI and TotalANVI.

    Parameters
    ----------
    n_latent
        Dimensions of the latent space.
    n_hidden
        Width of every hidden layer, but the classifier's.
    n_layers_encoder, n_layers_decoder
        Hidden layers of the encoders and of the decoders.
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
    scale_inputs
        Whether the encoder's counts are divided by one plus the cell's mean count. Those of scvi-tools before 1.3.1 are
        not, so that its encoders also see how deeply a cell was sequenced.
    protein_mean
        What a cell's protein counts are scaled by for the encoder: the mean over its ``"measured"`` proteins, or over
        ``"all"`` (as the original, to which a protein that is not measured is a zero).
    background_activation
        ``"softplus"`` or ``"exp"``: what makes the scale of the log background positive. Models of scvi-tools before
        1.2 have the latter.
    use_observed_lib_size
        Whether the library size ℓ is the observed total count; otherwise it is inferred. With a size factor, neither.
    linear_classifier
        Whether the classifier is one linear layer instead of a multi-layer perceptron, whatever its other options.
    classifier_n_layers, classifier_n_hidden, classifier_dropout_rate
        The classifier's hidden layers, their width and their dropout; `None` for those of the encoder.
    label_prior
        ``"uniform"``, ``"learned"`` for a learned π, or π itself: a probability for each label.
    n_enumerated_labels
        Labels with the highest q(c | z) that an unlabelled cell is summed over exactly; one draw stands for the rest,
        without bias. With no more labels than this plus one, all are summed.

    Raises
    ------
    ArgumentError
        For values out of range.

    Examples
    --------
    >>> ModelConfig(n_latent=10).norm_encoder
    'layer'
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
    scale_inputs: bool = True
    protein_mean: Literal["measured", "all"] = "measured"
    background_activation: Literal["softplus", "exp"] = "softplus"
    use_observed_lib_size: bool = True
    linear_classifier: bool = False
    classifier_n_layers: int | None = 1
    classifier_n_hidden: int | None = 128
    classifier_dropout_rate: float | None = None
    label_prior: Literal["uniform", "learned"] | tuple[float, ...] = "uniform"
    n_enumerated_labels: int = 4

    def __post_init__(self) -> None:
        sizes = ("n_latent", "n_hidden", "n_layers_encoder", "n_layers_decoder", "n_enumerated_labels")
        require_whole(self, (*sizes, "classifier_n_hidden"), 1)
        require_whole(self, ("classifier_n_layers",), 0)
        require_range(self, ("dropout_rate_encoder", "dropout_rate_decoder", "classifier_dropout_rate"), 0, 1)
        if not isinstance(self.label_prior, str):
            object.__setattr__(self, "label_prior", _probabilities("label_prior", self.label_prior))
        allowed: dict[str, tuple[str, ...]] = {
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
            require_choice(self, name, values)
        flags = ("encode_covariates", "log_variational", "scale_inputs", "use_observed_lib_size", "linear_classifier")
        require_flag(self, flags)

    def to_dict(self) -> dict[str, Any]:
        """Return the options as plain JSON values."""
        return asdict(self)
