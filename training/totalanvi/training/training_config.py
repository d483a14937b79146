"""Options of training: what a run does, and what it hides from the encoder meanwhile."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from totalanvi.training.errors import ArgumentError
from totalanvi.training.ranges import require_range

__all__ = ["Augmentation", "TrainingConfig"]


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
        require_range(self, ("no_panel", "part_panel", "unknown_batch", "thinning", "thinning_floor"), 0, 1)
        if self.no_panel + self.part_panel > 1 + 1e-9:
            raise ArgumentError(
                "no_panel and part_panel: expected shares of the same cells, 1 in all at most, found "
                f"{self.no_panel} and {self.part_panel}; lower one of them."
            )


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
        require_range(self, ("max_epochs", "batch_size"), 1)
        require_range(self, ("cool_down",), 0, 1)
        patience = ("early_stopping_patience", "lr_patience", "n_epochs_kl_warmup", "n_steps_kl_warmup", "seed")
        weights = ("max_kl_weight", "pro_recons_weight", "classification_ratio", "matching_weight", "weight_decay")
        require_range(self, (*patience, *weights), 0)
        if not 0 < self.lr < math.inf:
            raise ArgumentError(f"lr: expected a number above 0, found {self.lr}; the default is 0.004.")

    def to_dict(self) -> dict[str, Any]:
        """Return the options as plain JSON values."""
        return asdict(self)
