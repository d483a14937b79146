"""Options of training: what a run does, and what it hides from the encoder meanwhile.

Names are those of scvi-tools where it has the option: of its training plans, its trainer and its data splitters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeAlias, get_args

import torch

from totalanvi.training.checks import as_number, as_seed, require_function, require_type
from totalanvi.training.errors import ArgumentError
from totalanvi.training.fitting.metrics import METRICS
from totalanvi.training.network.augmentation import Augmentation
from totalanvi.training.option_checks import require_choice, require_flag, require_range, require_whole

__all__ = ["OptimizerCreator", "TrainingConfig", "default_warm_up"]

_MOST_WARM_UP_EPOCHS = 50

OptimizerCreator: TypeAlias = Callable[[Iterable[Any]], torch.optim.Optimizer]
"""From parameters, or groups of them, to their optimiser."""

PlateauMetric = Literal["elbo_validation", "reconstruction_loss_validation", "kl_local_validation"]


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained.

    Parameters
    ----------
    max_epochs
        Most passes over the training cells; with 0, there is nothing but a model that counts as trained.
    batch_size, drop_last
        Cells in a mini-batch, over all devices, and whether a last one with fewer is left out of an epoch of training.
    n_samples_per_label
        Most cells of a label that the classification loss of an epoch counts, drawn anew each epoch; the ELBO sees all
        cells. All count when `None`.
    optimizer, optimizer_creator
        ``"Adam"``, ``"AdamW"``, or ``"Custom"`` with a function that makes the optimiser of the parameters it is given.
    lr, weight_decay, eps
        Learning rate, weight decay and ε of Adam or AdamW.
    feature_lr_factor
        How many times as fast as the network's weights dispersions and priors of the protein background learn, up to a
        rate of 0.1; at least 1. An optimiser of the user's does not know of it.
    gradient_clip
        Largest norm of the gradient.
    n_epochs_kl_warmup, n_steps_kl_warmup
        Over how many epochs, or else mini-batches, the weight of the divergences rises from ``min_kl_weight`` to
        ``max_kl_weight``. None of both: no warm-up.
    max_kl_weight, min_kl_weight
        Weight of the divergences after, and at the start of, warm-up.
    pro_recons_weight
        Weight of the protein likelihood.
    warm_up_proteins
        Whether the weight of the divergences also multiplies the protein likelihood, as it does in scvi-tools. Short
        runs then hardly train proteins.
    classification_ratio
        α, the weight of the labelled cells' cross-entropy.
    adversarial_classifier, key_adversarial
        Whether a classifier that tells ``"batch"`` or ``"panel"`` apart in the latent space is trained to be fooled.
    scale_adversarial_loss
        Weight of fooling it; ``"auto"`` falls from 1 to 0 while the divergences warm up.
    check_val_every_n_epoch
        Epochs from one validation to the next.
    early_stopping, early_stopping_monitor, early_stopping_mode, early_stopping_patience
        Whether to stop once a metric, the validation ELBO by default, has not improved (``"min"``: fallen) for so many
        validations.
    early_stopping_min_delta, early_stopping_warmup_epochs
        What counts as an improvement, and the epochs before improvements are looked for.
    reduce_lr_on_plateau, lr_scheduler_metric, lr_factor, lr_patience, lr_threshold, lr_min
        Multiply the learning rate by ``lr_factor``, down to ``lr_min``, once a validation metric has not fallen by more
        than ``lr_threshold`` for ``lr_patience`` validations.
    cool_down
        Share of the epochs, the last ones, over which the learning rate falls to nearly nothing.
    augmentation
        What a second view of each mini-batch hides from the encoder; no second view when `None`.
    matching_weight
        Weight of the divergence between the two views' posteriors.
    seed
        Seeds the order of cells, dropout and posterior draws.

    Raises
    ------
    ArgumentError
        For values out of range.

    Examples
    --------
    >>> TrainingConfig(max_epochs=50, lr=1e-3).batch_size
    256
    """

    max_epochs: int = 400
    batch_size: int = 256
    drop_last: bool = False
    n_samples_per_label: int | None = None
    optimizer: Literal["Adam", "AdamW", "Custom"] = "Adam"
    optimizer_creator: OptimizerCreator | None = None
    lr: float = 4e-3
    weight_decay: float = 1e-6
    eps: float = 0.01
    feature_lr_factor: float = 10.0
    gradient_clip: float = 100.0
    n_epochs_kl_warmup: float | None = None
    n_steps_kl_warmup: float | None = None
    max_kl_weight: float = 1.0
    min_kl_weight: float = 0.0
    pro_recons_weight: float = 1.0
    warm_up_proteins: bool = False
    classification_ratio: float = 50.0
    adversarial_classifier: bool = False
    key_adversarial: Literal["batch", "panel"] = "batch"
    scale_adversarial_loss: float | Literal["auto"] = "auto"
    check_val_every_n_epoch: int = 1
    early_stopping: bool = True
    early_stopping_monitor: str = "elbo_validation"
    early_stopping_mode: Literal["min", "max"] = "min"
    early_stopping_patience: int = 45
    early_stopping_min_delta: float = 0.0
    early_stopping_warmup_epochs: int = 0
    reduce_lr_on_plateau: bool = True
    lr_scheduler_metric: PlateauMetric = "elbo_validation"
    lr_factor: float = 0.6
    lr_patience: int = 30
    lr_threshold: float = 0.0
    lr_min: float = 0.0
    cool_down: float = 0.4
    augmentation: Augmentation | None = field(default_factory=Augmentation)
    matching_weight: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        require_whole(self, ("batch_size", "check_val_every_n_epoch", "n_samples_per_label"), 1)
        patience = ("early_stopping_patience", "early_stopping_warmup_epochs", "lr_patience")
        require_whole(self, ("max_epochs", *patience), 0)
        object.__setattr__(self, "seed", as_seed(self.seed))
        weights = ("max_kl_weight", "min_kl_weight", "pro_recons_weight", "classification_ratio", "matching_weight")
        rates = ("weight_decay", "eps", "gradient_clip", "early_stopping_min_delta", "lr_threshold", "lr_min")
        require_range(self, (*weights, *rates, "n_epochs_kl_warmup", "n_steps_kl_warmup"), 0)
        require_range(self, ("feature_lr_factor",), 1)
        require_range(self, ("cool_down",), 0, 1)
        flags = ("drop_last", "warm_up_proteins", "adversarial_classifier", "early_stopping", "reduce_lr_on_plateau")
        require_flag(self, flags)
        require_choice(self, "optimizer", ("Adam", "AdamW", "Custom"))
        require_choice(self, "key_adversarial", ("batch", "panel"))
        require_choice(self, "early_stopping_mode", ("min", "max"))
        require_choice(self, "early_stopping_monitor", METRICS)
        require_choice(self, "lr_scheduler_metric", get_args(PlateauMetric))
        if self.scale_adversarial_loss != "auto":
            require_range(self, ("scale_adversarial_loss",), 0)
        as_number("lr", self.lr, above=0, cure="the default is 0.004")
        as_number("lr_factor", self.lr_factor, above=0, below=1, cure="the default is 0.6")
        if self.augmentation is not None:
            require_type("augmentation", self.augmentation, Augmentation, "give one, or None to hide nothing")
        if self.min_kl_weight > self.max_kl_weight:
            raise ArgumentError(
                f"min_kl_weight: expected max_kl_weight, {self.max_kl_weight}, at most, found {self.min_kl_weight}; "
                "lower it."
            )
        if (self.optimizer == "Custom") != (self.optimizer_creator is not None):
            raise ArgumentError(
                "optimizer and optimizer_creator: expected a function together with 'Custom' and with nothing else, "
                f"found {self.optimizer_creator!r} with {self.optimizer!r}; give both or none."
            )
        if self.optimizer_creator is not None:
            require_function("optimizer_creator", self.optimizer_creator, 1, "the parameters")

    def to_dict(self) -> dict[str, Any]:
        """Return the options as plain JSON values; a function is its name."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        plain["augmentation"] = None if self.augmentation is None else asdict(self.augmentation)
        if self.optimizer_creator is not None:
            plain["optimizer_creator"] = getattr(
                self.optimizer_creator, "__qualname__", type(self.optimizer_creator).__name__
            )
        return plain


def default_warm_up(max_epochs: int) -> int:
    """Epochs over which the divergences warm up where nobody says: half of all, 50 at most."""
    return min(_MOST_WARM_UP_EPOCHS, max_epochs // 2)
