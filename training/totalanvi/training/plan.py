"""The training step, in the order in which things happen."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_f1_score

from totalanvi.training.data import UNLABELLED, CellBatch
from totalanvi.training.errors import CheckpointError
from totalanvi.training.layers import FullyConnected
from totalanvi.training.losses import ElboTerms
from totalanvi.training.training_config import TrainingConfig
from totalanvi.training.vae import TotalVAE

__all__ = ["TrainingPlan"]

_ADVERSARY_EPS = 0.01
_ADVERSARY_LR = 1e-3


class Adversary(nn.Module):
    """Tells batches apart from the latent; the encoder is trained until it cannot.

    It helps batches mix where their panels differ, since missing proteins alone would tell them apart.
    """

    def __init__(self, n_latent: int, n_batches: int, n_hidden: int = 32):
        super().__init__()
        self.n_batches = n_batches
        self.trunk = FullyConnected(n_latent, n_hidden, n_layers=2, norm="batch", dropout=0.1)
        self.head = nn.Linear(n_hidden, n_batches)

    def loss(self, latent: Tensor, batch: Tensor, fool: bool) -> Tensor:
        """Cross-entropy to the true batch or, to fool it, to an even spread over all the others."""
        log_p = torch.log_softmax(self.head(self.trunk(latent)), dim=-1)
        truth = F.one_hot(batch, self.n_batches).to(log_p.dtype)
        target = (1.0 - truth) / (self.n_batches - 1) if fool else truth
        return -(target * log_p).sum(dim=-1).mean()


class TrainingPlan(L.LightningModule):
    """Trains a `TotalVAE` or a `TotalANVAE`.

    Parameters
    ----------
    module
        The model.
    config
        How to train it.
    """

    def __init__(self, module: TotalVAE, config: TrainingConfig):
        super().__init__()
        self.automatic_optimization = False  # the adversary has an optimiser of its own
        self.module = module
        self.config = config
        self.adversary = (
            Adversary(module.config.n_latent, module.dims.n_batches)
            if config.adversarial_classifier and module.dims.n_batches > 1
            else None
        )
        self._validation_logits: list[tuple[Tensor, Tensor]] = []
        self._rng_state: Tensor | None = None

    @property
    def warm_up(self) -> float:
        """How much of the warm-up is done, from 0 to 1."""
        config = self.config
        if config.n_epochs_kl_warmup:
            return min(1.0, self.current_epoch / config.n_epochs_kl_warmup)
        if config.n_steps_kl_warmup:
            # Not `global_step`: that one counts the adversary's steps too.
            return min(1.0, self.trainer.fit_loop.total_batch_idx / config.n_steps_kl_warmup)
        return 1.0

    def on_train_epoch_start(self) -> None:
        """Lower the learning rate, from wherever the plateau schedule has brought it, once the run cools down."""
        remaining = self.config.max_epochs - self.current_epoch
        if remaining <= self.config.cool_down * self.config.max_epochs:
            for group in self._optimizers()[0].param_groups:
                group["lr"] *= remaining / (remaining + 1)

    def training_step(self, cells: CellBatch, batch_idx: int) -> None:
        """One step of the model, then one of the adversary."""
        config, warm_up = self.config, self.warm_up
        kl_weight = config.max_kl_weight * warm_up
        optimizer, *adversary_optimizer = self._optimizers()

        augmentation = config.augmentation
        terms: ElboTerms = self.module(cells, 0.0 if augmentation is None else augmentation.unknown_batch)
        loss = terms.loss(kl_weight, self._protein_weight(kl_weight)).mean()
        classification = self._classification(terms.label_logits, cells.label)
        if classification is not None:
            loss = loss + config.classification_ratio * classification
        if augmentation is not None:
            hidden = self.module.hidden_view(cells, terms.posterior, augmentation)
            loss = loss + hidden.loss(config.matching_weight, config.pro_recons_weight).mean()
            hidden_classification = self._classification(hidden.label_logits, cells.label)
            if hidden_classification is not None:
                loss = loss + config.classification_ratio * hidden_classification
        # The adversary matters while the divergences, which also mix batches, are still weak.
        adversary_weight = 1.0 - warm_up
        if self.adversary is not None and adversary_weight > 0:
            loss = loss + adversary_weight * self.adversary.loss(terms.latent, cells.batch, fool=True)

        optimizer.zero_grad()
        self.manual_backward(loss)
        self.clip_gradients(optimizer, gradient_clip_val=config.gradient_clip, gradient_clip_algorithm="norm")
        optimizer.step()

        if adversary_optimizer and adversary_weight > 0 and self.adversary is not None:
            adversary_optimizer[0].zero_grad()
            self.manual_backward(adversary_weight * self.adversary.loss(terms.latent.detach(), cells.batch, fool=False))
            adversary_optimizer[0].step()

        self._log_terms("train", terms, classification, cells.n_cells)
        self.log("train_loss", loss.detach(), on_epoch=True, on_step=False, batch_size=cells.n_cells)
        self.log("kl_weight", kl_weight, on_epoch=True, on_step=False, batch_size=cells.n_cells)

    def validation_step(self, cells: CellBatch, batch_idx: int) -> None:
        """The same terms with nothing hidden."""
        terms: ElboTerms = self.module(cells)
        classification = self._classification(terms.label_logits, cells.label)
        self._log_terms("validation", terms, classification, cells.n_cells)
        if terms.label_logits is not None:
            self._validation_logits.append((terms.label_logits, cells.label))

    def on_validation_epoch_end(self) -> None:
        """Score the labels, and lower the learning rate where the ELBO has stopped improving."""
        if self._validation_logits:
            logits = torch.cat([logits for logits, _ in self._validation_logits])
            label = torch.cat([label for _, label in self._validation_logits])
            self._validation_logits.clear()
            known = label != UNLABELLED
            if known.any():
                self._log_label_scores(logits[known], label[known])
        scheduler = self.lr_schedulers()
        if isinstance(scheduler, ReduceLROnPlateau) and "elbo_validation" in self.trainer.callback_metrics:
            scheduler.step(self.trainer.callback_metrics["elbo_validation"])

    def configure_optimizers(self) -> Any:
        """Adam for the model, watched by the plateau schedule, and Adam for the adversary."""
        config = self.config
        trained = [p for p in self.module.parameters() if p.requires_grad]
        adam = torch.optim.Adam(
            trained, lr=config.lr, eps=config.adam_eps, weight_decay=config.weight_decay, fused=True
        )
        optimizers: list[torch.optim.Optimizer] = [adam]
        if self.adversary is not None:
            optimizers.append(torch.optim.Adam(self.adversary.parameters(), lr=_ADVERSARY_LR, eps=_ADVERSARY_EPS))
        if not config.reduce_lr_on_plateau:
            return optimizers
        plateau = ReduceLROnPlateau(
            adam, factor=config.lr_factor, patience=config.lr_patience, min_lr=config.lr_min, threshold=0.0
        )
        return optimizers, [plateau]

    # A resumed run draws the same numbers as one that was not interrupted.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the options and the state of the random numbers."""
        checkpoint["options"] = self.config.to_dict()
        checkpoint["rng_state"] = torch.get_rng_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the state of the random numbers once training starts.

        Raises
        ------
        CheckpointError
            When the interrupted run was one of another model, or had other options; it may have had fewer epochs.
        """
        kept = checkpoint.get("options", {}) | {"max_epochs": self.config.max_epochs}
        differ = [name for name, value in self.config.to_dict().items() if kept.get(name) != value]
        shapes = {name: weight.shape for name, weight in self.state_dict().items()}
        if {name: weight.shape for name, weight in checkpoint.get("state_dict", {}).items()} != shapes:
            differ.append("the shape of its weights")
        if differ:
            raise CheckpointError(
                f"Expected an interrupted run of this model with these options, found one of another "
                f"({', '.join(differ)} differ); resume with what it was started with, or name another folder."
            )
        self._rng_state = checkpoint["rng_state"]

    def on_train_start(self) -> None:
        """Take up the state of the random numbers of the interrupted run."""
        if self._rng_state is not None:
            torch.set_rng_state(self._rng_state.cpu())

    # Parts of a step

    def _optimizers(self) -> list[Any]:
        optimizers = self.optimizers()
        return optimizers if isinstance(optimizers, list) else [optimizers]

    def _protein_weight(self, kl_weight: float) -> float:
        return self.config.pro_recons_weight * (kl_weight if self.config.warm_up_proteins else 1.0)

    def _classification(self, logits: Tensor | None, label: Tensor) -> Tensor | None:
        """CE(q(c | z), c*), the mean over the labelled cells; `None` where there are none."""
        if logits is None:
            return None
        known = label != UNLABELLED
        return F.cross_entropy(logits[known], label[known]) if bool(known.any()) else None

    def _log_terms(self, split: str, terms: ElboTerms, classification: Tensor | None, n_cells: int) -> None:
        reconstruction = terms.reconstruction_gene + terms.reconstruction_protein
        values = {
            f"elbo_{split}": terms.loss(),
            f"reconstruction_loss_{split}": reconstruction,
            f"reconstruction_loss_gene_{split}": terms.reconstruction_gene,
            f"reconstruction_loss_protein_{split}": terms.reconstruction_protein,
            f"kl_local_{split}": terms.kl_local,
        }
        means = {name: value.detach().mean() for name, value in values.items()}
        if classification is not None:
            means[f"{split}_classification_loss"] = classification.detach()
        self.log_dict(means, on_epoch=True, on_step=False, batch_size=n_cells)

    def _log_label_scores(self, logits: Tensor, label: Tensor) -> None:
        n_labels = logits.shape[-1]
        probabilities = logits.softmax(dim=-1)
        self.log_dict(
            {
                "validation_accuracy": (logits.argmax(dim=-1) == label).float().mean(),
                "validation_f1_score": multiclass_f1_score(logits, label, n_labels, average="macro"),
                "validation_calibration_error": multiclass_calibration_error(probabilities, label, n_labels),
            }
        )
