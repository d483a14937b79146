"""``train`` of TotalANVI: the arguments that its users know."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy.typing as npt

from totalanvi.training.fitting.options import Options
from totalanvi.training.models.trainable import TrainableModel
from totalanvi.training.network.augmentation import Augmentation

__all__ = ["SemisupervisedTraining"]


class SemisupervisedTraining(TrainableModel):
    """A model that learns from labels as well."""

    _knows_labels: ClassVar[bool] = True

    # The first arguments are in the order of scvi-tools, which is another one for each of its two models.
    def train(  # type: ignore[override]
        self,
        max_epochs: int | None = None,
        n_samples_per_label: int | None = None,
        check_val_every_n_epoch: int | None = None,
        train_size: float | None = None,
        validation_size: float | None = None,
        shuffle_set_split: bool | None = None,
        batch_size: int | None = None,
        accelerator: str = "auto",
        devices: Any = "auto",
        adversarial_classifier: bool | None = None,
        datasplitter_kwargs: Options | None = None,
        plan_config: Options | None = None,
        plan_kwargs: Options | None = None,
        *,
        lr: float | None = None,
        early_stopping: bool | None = None,
        reduce_lr_on_plateau: bool | None = None,
        n_steps_kl_warmup: float | None = None,
        n_epochs_kl_warmup: float | None = None,
        external_indexing: Sequence[npt.ArrayLike | None] | None = None,
        augmentation: Augmentation | None = None,
        seed: int | None = None,
        progress: bool = True,
        resume_folder: str | Path | None = None,
        trainer_config: Options | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        """Train the model; a trained one goes on from where it is.

        Parameters
        ----------
        max_epochs
            Most passes over the training cells; by default as many as make 4,000 mini-batches, from 20 to 400; 0 trains
            nothing, and the model counts as trained.
        n_samples_per_label
            Most cells of a label that the classification loss of an epoch counts, drawn anew each epoch, so that common
            types do not outvote rare ones. The ELBO sees all cells, and uses all labels. By default, all count.
        check_val_every_n_epoch, train_size, validation_size, shuffle_set_split, batch_size, accelerator, devices
            As for `TOTALVI.train`, like all arguments that are not named here.
        adversarial_classifier, datasplitter_kwargs, plan_config, plan_kwargs, trainer_config, trainer_kwargs
            As well. ``plan_kwargs={"classification_ratio": ...}`` weighs the classification loss, 50 by default.
        lr, early_stopping, reduce_lr_on_plateau, n_steps_kl_warmup, n_epochs_kl_warmup, external_indexing
            As well; they may also be given in the dictionaries, as in scvi-tools.
        augmentation, seed, progress, resume_folder
            As well.

        Raises
        ------
        ArgumentError
            For options that are unknown or out of range.
        CheckpointError
            When what is in ``resume_folder`` cannot be read, or is a run of another model or with other options.
        DivergenceError
            When the loss is no number any more; the model is then what it was before.
        ProcessesError
            When another process of a run on several devices has ended, or cannot be reached.

        Examples
        --------
        >>> model.train(max_epochs=50, n_samples_per_label=100, plan_kwargs={"lr": 3e-3})  # doctest: +SKIP
        >>> model.history["validation_accuracy"].tail()  # doctest: +SKIP
        """
        self._train(
            {
                "max_epochs": max_epochs,
                "n_samples_per_label": n_samples_per_label,
                "check_val_every_n_epoch": check_val_every_n_epoch,
                "train_size": train_size,
                "validation_size": validation_size,
                "shuffle_set_split": shuffle_set_split,
                "batch_size": batch_size,
                "accelerator": accelerator,
                "devices": devices,
                "adversarial_classifier": adversarial_classifier,
                "lr": lr,
                "early_stopping": early_stopping,
                "reduce_lr_on_plateau": reduce_lr_on_plateau,
                "n_steps_kl_warmup": n_steps_kl_warmup,
                "n_epochs_kl_warmup": n_epochs_kl_warmup,
                "external_indexing": external_indexing,
                "augmentation": augmentation,
                "seed": seed,
                "progress": progress,
                "resume_folder": resume_folder,
            },
            (datasplitter_kwargs, plan_kwargs, trainer_kwargs),
            (plan_config, trainer_config),
        )
