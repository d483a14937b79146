"""The training step, in the order in which things happen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from contextlib import nullcontext
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from totalanvi.training.data import CellBatch
from totalanvi.training.errors import CheckpointError
from totalanvi.training.fitting.adversary import make_adversary
from totalanvi.training.fitting.capturable import count_steps, hindrances
from totalanvi.training.fitting.captured import CapturedSteps
from totalanvi.training.fitting.cuda_graph import CudaGraphs
from totalanvi.training.fitting.divergence import require_finite
from totalanvi.training.fitting.gradients import average_gradients, without_reduction
from totalanvi.training.fitting.metrics import EpochMeans, LabelScores, classification_loss
from totalanvi.training.fitting.optimizers import adversary_optimizer, model_optimizer, plateau_schedule
from totalanvi.training.fitting.random_state import draw_apart, random_state, restore_random_state
from totalanvi.training.fitting.shared_adam import SharedAdam
from totalanvi.training.fitting.step_weights import StepWeights
from totalanvi.training.fitting.training_config import TrainingConfig, default_warm_up
from totalanvi.training.loaders import TrainingBatch
from totalanvi.training.network.late_gradients import LateGradients
from totalanvi.training.network.losses import ElboTerms, HiddenTerms
from totalanvi.training.network.surgery import mask_gradients
from totalanvi.training.network.vae import TotalVAE

__all__ = ["TrainingPlan"]


class TrainingPlan(L.LightningModule):
    """Trains a `TotalVAE` or a `TotalANVAE`.

    Parameters
    ----------
    module
        The model.
    config
        How to train it.
    cuda_graphs
        Whether a GPU may repeat steps by itself, where it can; see `totalanvi.training.fitting.captured`.
    """

    def __init__(self, module: TotalVAE, config: TrainingConfig, cuda_graphs: bool = True):
        super().__init__()
        self.automatic_optimization = False  # the adversary has an optimiser of its own
        self.module = module
        self.config = config
        self.adversary = make_adversary(module, config)
        self._means = {"train": EpochMeans(), "validation": EpochMeans()}
        self._label_scores = {"train": LabelScores(), "validation": LabelScores()}
        self._random_state: dict[str, Tensor] | None = None
        self._cuda_graphs = cuda_graphs
        self._captured: CapturedSteps | None = None
        self.beside: Executor | None = None
        """A thread that computes a part of a step beside the rest, where there is one."""
        self.late: LateGradients | None = None
        """Gradients that this thread computes, too, where there is one."""
        self._noted: Future[None] | None = None
        """There once a thread beside has noted the last step."""
        self._cooled = 1.0
        """What the learning rate is multiplied by now; a run that is resumed with more epochs takes it back."""

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

    @property
    def kl_weight(self) -> float:
        """Weight of the divergences."""
        config = self.config
        return config.min_kl_weight + (config.max_kl_weight - config.min_kl_weight) * self.warm_up

    @property
    def adversary_weight(self) -> float:
        """Weight of fooling the adversary; it matters while the divergences, which also mix batches, are weak."""
        scale = self.config.scale_adversarial_loss
        return 1.0 - self.warm_up if scale == "auto" else scale

    @property
    def cooling(self) -> float:
        """What the learning rate is multiplied by in this epoch, falling from 1 to almost 0 once the run cools down."""
        max_epochs = self.config.max_epochs
        longest = math.floor(self.config.cool_down * max_epochs)
        return min(1.0, (max_epochs - self.current_epoch) / (longest + 1))

    def on_train_epoch_start(self) -> None:
        """Lower the learning rate, from wherever the plateau schedule has brought it, once the run cools down."""
        if self.global_rank > 0:
            draw_apart(self.config.seed, self.current_epoch, self.global_rank)
        cooling = self.cooling
        for group in self._optimizers()[0].param_groups:
            group["lr"] *= cooling / self._cooled
        self._cooled = cooling

    def transfer_batch_to_device(self, batch: CellBatch, device: torch.device, dataloader_idx: int) -> CellBatch:
        """Send a mini-batch to a GPU without waiting until it is there, which is when the step before is done."""
        if batch.label.device == device:
            return batch
        if device.type != "cuda":
            return batch.to(device)
        return batch.pin_memory().to(device, non_blocking=True)

    def training_step(self, cells: TrainingBatch, batch_idx: int) -> None:
        """One step, as it is or from a record of it."""
        weights = self._weights()
        if self._captured is None:
            with without_reduction(self.trainer), self.late or nullcontext():
                self.step(cells, weights, self._optimizers())
        else:
            self._captured(cells, weights)
            count_steps(self.trainer, 1 if weights.adversary is None else 2)
        if self.trainer.is_last_batch:
            self._wait_for_notes()
            self._log_epoch("train")

    def step(self, cells: TrainingBatch, weights: StepWeights, optimizers: Sequence[Any]) -> None:
        """One step of the model, then one of the adversary.

        What is computed on the device decides on nothing here, so that a GPU can repeat the step (see `captured`).

        Parameters
        ----------
        cells
            A mini-batch, on the device.
        weights
            Of the parts of the loss.
        optimizers
            That of the model, then, if any, that of the adversary.
        """
        config = self.config
        optimizer, *optimizer_of_adversary = optimizers

        augmentation = config.augmentation
        share, share_of_targets = cells.shares  # of this process in the mini-batch, see `TrainingBatch`
        hidden: HiddenTerms | None = None
        if augmentation is None:
            terms: ElboTerms = self.module(cells, self.beside)
        else:
            terms, hidden = self.module.with_hidden_view(cells, augmentation, self.beside)
        rest = terms.latent.new_zeros(())  # of the loss, beside the bound
        for view in (terms, hidden):
            if view is not None and view.label_logits is not None:
                told = share_of_targets * classification_loss(view.label_logits, cells.target)
                rest = rest + config.classification_ratio * told
        if hidden is not None:
            rest = rest + share * hidden.loss(config.matching_weight, weights.protein).mean()
        noted: dict[str, Tensor | float] = {"kl_weight": weights.kl}
        if self.adversary is not None and weights.adversary is not None:
            origin = cells.panel if config.key_adversarial == "panel" else cells.batch
            fooling = self.adversary.loss(terms.latent, origin, fool=True)
            rest = rest + share * weights.adversary * fooling
            noted["adversarial_loss"] = fooling

        optimizer.zero_grad()
        loss = share * terms.loss(weights.kl, weights.protein).mean() + rest
        self._backward(loss, optimizer, self.late)
        if self.beside is not None:  # what is computed there has its numbers since its gradient was asked for
            loss = share * terms.loss(weights.kl, weights.protein).mean() + rest
        mask_gradients(self.module)
        self._clip_gradient(optimizer)
        optimizer.step()

        if self.adversary is not None and weights.adversary is not None:
            optimizer_of_adversary[0].zero_grad()
            seen_through = self.adversary.loss(terms.latent.detach(), origin, fool=False)
            self._backward(share * weights.adversary * seen_through, optimizer_of_adversary[0])
            optimizer_of_adversary[0].step()

        noted |= {"train_loss": loss / share}
        if self.beside is None:
            self._note("train", terms, cells.target, noted)
        else:
            self._wait_for_notes()
            self._noted = self.beside.submit(self._note, "train", terms, cells.target, noted)

    def validation_step(self, cells: CellBatch, batch_idx: int) -> None:
        """The same terms with nothing hidden."""
        terms: ElboTerms = self.module(cells)
        weights = self._weights()
        loss = terms.loss(weights.kl, weights.protein).mean()
        self._note("validation", terms, cells.label, {"validation_loss": loss})

    def on_validation_epoch_end(self) -> None:
        """Lower the learning rate where a metric has stopped falling."""
        metrics = self._log_epoch("validation")
        scheduler = self.lr_schedulers()
        if isinstance(scheduler, ReduceLROnPlateau) and not self.trainer.sanity_checking:
            scheduler.step(metrics[self.config.lr_scheduler_metric])

    def configure_optimizers(self) -> Any:
        """One optimiser for the model, watched by the plateau schedule, and one for the adversary."""
        optimizer = model_optimizer(self.module, self.config, self.beside)
        optimizers = [optimizer] if self.adversary is None else [optimizer, adversary_optimizer(self.adversary)]
        if not self.config.reduce_lr_on_plateau:
            return optimizers
        return optimizers, [plateau_schedule(optimizer, self.config)]

    # A resumed run draws the same numbers as one that was not interrupted.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the options and the state of the random numbers."""
        checkpoint["options"] = self.config.to_dict()
        checkpoint["random_state"] = random_state(self.device)
        checkpoint["cooled"] = self._cooled

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the state of the random numbers once training starts.

        Raises
        ------
        CheckpointError
            When the interrupted run was one of another model, or had other options; it may have had fewer epochs.
        """
        kept = checkpoint.get("options", {})
        if kept.get("n_epochs_kl_warmup") == default_warm_up(kept.get("max_epochs", 0)):
            kept = kept | {"n_epochs_kl_warmup": default_warm_up(self.config.max_epochs)}
        # Runs from before there was this option had one rate for all.
        kept = {"feature_lr_factor": 1.0} | kept | {"max_epochs": self.config.max_epochs}
        differ = [name for name, value in self.config.to_dict().items() if kept.get(name) != value]
        shapes = {name: weight.shape for name, weight in self.state_dict().items()}
        if {name: weight.shape for name, weight in checkpoint.get("state_dict", {}).items()} != shapes:
            differ.append("the shape of its weights")
        if differ:
            raise CheckpointError(
                f"Expected an interrupted run of this model with these options, found one of another "
                f"({', '.join(differ)} differ); resume with what it was started with, or name another folder."
            )
        self._random_state = checkpoint["random_state"]
        self._cooled = checkpoint.get("cooled", 1.0)

    def on_train_start(self) -> None:
        """Take up the state of the random numbers of the interrupted run; see how steps will be done."""
        if self._random_state is not None:
            restore_random_state(self._random_state, self.device)
        if self._cuda_graphs and not hindrances(self.device, self.trainer, self.module, self.config):
            self._captured = CapturedSteps(self.step, self.trainer.optimizers, CudaGraphs(self.device))

    def on_train_end(self) -> None:
        """Give the memory of recorded steps back."""
        self._captured = None

    # Parts of a step

    def _optimizers(self) -> list[Any]:
        optimizers = self.optimizers()
        return optimizers if isinstance(optimizers, list) else [optimizers]

    def _backward(self, loss: Tensor, optimizer: Any, late: LateGradients | None = None) -> None:
        """Compute the gradient of an optimiser's parameters, the mean of all processes'."""
        if late is not None:
            late.begin()
        self.manual_backward(loss)
        if late is not None:
            late.finish()
        if self.trainer.world_size > 1:
            average_gradients(optimizer.optimizer)

    def _clip_gradient(self, optimizer: Any) -> None:
        """Limit the norm of the gradient; Lightning's own way refuses a fused optimiser in mixed precision."""
        if self.config.gradient_clip == 0:
            return
        # Until the step, a gradient of half precision is scaled up, and so has to be its limit.
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        limit = self.config.gradient_clip * (1.0 if scaler is None else scaler.get_scale())
        own = getattr(optimizer, "optimizer", optimizer)  # Lightning's wraps it; a recorded step has it as it is
        if isinstance(own, SharedAdam):
            own.limit_norm(limit)
            return
        nn.utils.clip_grad_norm_([weight for group in optimizer.param_groups for weight in group["params"]], limit)

    def _weights(self) -> StepWeights:
        """Weights of the parts of the loss, now."""
        kl, fooling = self.kl_weight, 0.0 if self.adversary is None else self.adversary_weight
        protein = self.config.pro_recons_weight * (kl if self.config.warm_up_proteins else 1.0)
        return StepWeights(kl, protein, fooling if fooling > 0 else None)

    def _wait_for_notes(self) -> None:
        """Wait until what the history says of the step before is summed up, by a thread beside."""
        if self._noted is not None:
            self._noted.result()

    @torch.no_grad()
    def _note(self, split: str, terms: ElboTerms, label: Tensor, others: dict[str, Tensor | float]) -> None:
        """Sum up what the history says of this mini-batch; the ELBO in it has no weights."""
        gene, protein = terms.reconstruction_gene.mean(), terms.reconstruction_protein.mean()
        self._means[split].add(
            {
                f"elbo_{split}": terms.negative_elbo.mean(),
                f"reconstruction_loss_{split}": gene + protein,
                f"reconstruction_loss_gene_{split}": gene,
                f"reconstruction_loss_protein_{split}": protein,
                f"kl_local_{split}": terms.kl_local.mean(),
                f"kl_global_{split}": 0.0,  # every latent variable is a cell's own
                f"efficiency_penalty_{split}": terms.efficiency_penalty.mean(),
                **others,
            },
            len(label),
        )
        if terms.label_logits is not None:
            self._label_scores[split].add(terms.label_logits, label)

    def _log_epoch(self, split: str) -> dict[str, Any]:
        """Hand Lightning the metrics of the epoch, for the history and for callbacks."""
        # Every process has the metrics of all cells, so that all of them stop, and lower the learning rate, at a time.
        total = None if self.trainer.world_size == 1 else self._total
        scores = {f"{split}_{name}": value for name, value in self._label_scores[split].take(total).items()}
        metrics = self._means[split].take(total) | scores
        if split == "validation" and scores:
            # Over all labelled cells, however they come in mini-batches and processes.
            metrics["validation_loss"] += self.config.classification_ratio * scores["validation_classification_loss"]
        require_finite(self.module, metrics[f"{split}_loss"], self.current_epoch, self.config.lr)
        if split == "train":
            optimizer = self._optimizers()[0].optimizer
            kind = self.config.optimizer if isinstance(optimizer, SharedAdam) else type(optimizer).__name__
            metrics[f"lr-{kind}"] = optimizer.param_groups[0]["lr"]
        self.log_dict(metrics, on_epoch=True, on_step=False, batch_size=1)
        return metrics

    def _total(self, values: Tensor) -> Tensor:
        """Sum over all processes."""
        total: Tensor = self.trainer.strategy.reduce(values.to(self.device), reduce_op="sum")
        return total
