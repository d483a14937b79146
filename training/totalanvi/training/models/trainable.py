"""``train``: from a model that is built to one that knows its reference."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from totalanvi.training.base import BaseModel
from totalanvi.training.data import UNLABELLED, Cells
from totalanvi.training.errors import ArgumentError
from totalanvi.training.fitting.fit import fit
from totalanvi.training.fitting.options import Options, default_protein_weight, read_run
from totalanvi.training.fitting.split import Split, split_cells
from totalanvi.training.network.augmentation import Augmentation
from totalanvi.training.readout.readout import Readout
from totalanvi.training.registration.registry import Registry
from totalanvi.training.stored_counts import slabs

__all__ = ["TrainableModel", "data_digest"]

_CELLS_AT_ONCE = 16_384


class TrainableModel(BaseModel):
    """A model that can be trained, and remembers how it was."""

    _knows_labels: ClassVar[bool] = False
    history: dict[str, pd.DataFrame]
    readout: Readout | None = None
    """What `TOTALANVI.fit_readout` has fitted, or `None`."""
    _split: Split | None = None
    _training: dict[str, Any]
    """What came of training, for the checkpoint."""
    _adapted: dict[str, Any]
    """The same of the reference's model that surgery has adapted; empty for a model that is none."""

    def train(
        self,
        max_epochs: int | None = None,
        lr: float | None = None,
        accelerator: str = "auto",
        devices: Any = "auto",
        train_size: float | None = None,
        validation_size: float | None = None,
        shuffle_set_split: bool | None = None,
        batch_size: int | None = None,
        early_stopping: bool | None = None,
        check_val_every_n_epoch: int | None = None,
        reduce_lr_on_plateau: bool | None = None,
        n_steps_kl_warmup: float | None = None,
        n_epochs_kl_warmup: float | None = None,
        adversarial_classifier: bool | None = None,
        datasplitter_kwargs: Options | None = None,
        plan_kwargs: Options | None = None,
        external_indexing: Sequence[npt.ArrayLike | None] | None = None,
        *,
        augmentation: Augmentation | None = None,
        seed: int | None = None,
        progress: bool = True,
        resume_folder: str | Path | None = None,
        plan_config: Options | None = None,
        trainer_config: Options | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        """Train the model; a trained one goes on from where it is.

        Parameters
        ----------
        max_epochs
            Most passes over the training cells; by default as many as make 4,000 mini-batches, from 20 to 400; 0 trains
            nothing, and the model counts as trained.
        lr
            Learning rate, 0.004 by default.
        accelerator, devices
            As Lightning takes them, but for ``"auto"`` devices, which are one. On several devices, or with
            ``num_nodes=2`` on several machines, each process runs the script from its start (``strategy="ddp"``).
        train_size, validation_size, shuffle_set_split, external_indexing
            Which cells train and which validate; see `totalanvi.training.fitting.split`.
        batch_size
            Cells in a mini-batch, 256 by default, over all devices together.
        early_stopping, reduce_lr_on_plateau
            Whether to stop, and to lower the learning rate, when the validation ELBO stops improving; both by default.
        check_val_every_n_epoch
            Epochs from one validation to the next, 1 by default.
        n_steps_kl_warmup, n_epochs_kl_warmup
            Length of the warm-up of the divergences, in mini-batches or epochs; by default half of the epochs, 50 at
            most; none with 0. Epochs win where both are given.
        adversarial_classifier
            Train batches to mix; by default where panels lack proteins and there are several batches.
        datasplitter_kwargs
            Further options of how cells are served: ``drop_last`` leaves out a last mini-batch that is not full,
            ``num_workers`` is the number of processes that make mini-batches ahead of time.
        plan_kwargs
            Further options of `totalanvi.training.TrainingConfig`. ``pro_recons_weight`` is by default half the square
            root of genes per protein, 1 at least: so that a few proteins are heard beside thousands of genes.
        augmentation
            What training hides from the encoder; `Augmentation` says what by default. Nothing with
            ``plan_kwargs={"augmentation": None}``.
        seed
            Seeds the split, the order of cells and all draws; the model's by default.
        progress
            Show a line that counts epochs.
        resume_folder
            Keep the state of the run here after each epoch, and continue from it when it is there.
        plan_config, trainer_config
            Like ``plan_kwargs`` and ``trainer_kwargs``, which win.
        **trainer_kwargs
            ``cuda_graphs=False`` keeps a GPU from recording steps and repeating them by itself, which it does where one
            GPU trains in single precision.
            Options of `totalanvi.training.TrainingConfig` that scvi-tools takes here, ``early_stopping_patience`` for
            one, and those of Lightning's ``Trainer``, ``callbacks`` and ``num_nodes`` for two; ``precision`` is one of
            ``"32-true"``, ``"bf16-mixed"`` and ``"16-mixed"``.

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

        Notes
        -----
        An option may be given in several places: an argument by name wins over the dictionaries, ``..._kwargs`` over
        ``..._config``, and `None` leaves it to the next place.

        Examples
        --------
        >>> model.train(max_epochs=50, plan_kwargs={"weight_decay": 0.0})  # doctest: +SKIP
        >>> model.history["elbo_validation"].tail()  # doctest: +SKIP
        """
        self._train(
            {
                "max_epochs": max_epochs,
                "lr": lr,
                "accelerator": accelerator,
                "devices": devices,
                "train_size": train_size,
                "validation_size": validation_size,
                "shuffle_set_split": shuffle_set_split,
                "batch_size": batch_size,
                "early_stopping": early_stopping,
                "check_val_every_n_epoch": check_val_every_n_epoch,
                "reduce_lr_on_plateau": reduce_lr_on_plateau,
                "n_steps_kl_warmup": n_steps_kl_warmup,
                "n_epochs_kl_warmup": n_epochs_kl_warmup,
                "adversarial_classifier": adversarial_classifier,
                "external_indexing": external_indexing,
                "augmentation": augmentation,
                "seed": seed,
                "progress": progress,
                "resume_folder": resume_folder,
            },
            (datasplitter_kwargs, plan_kwargs, trainer_kwargs),
            (plan_config, trainer_config),
        )

    def _train(
        self, arguments: Mapping[str, Any], options: tuple[Options | None, ...], configs: tuple[Options | None, ...]
    ) -> None:
        """Train with what was given, see `totalanvi.training.fitting.options.read_run`."""
        cells, dims = self._reference_cells(), self.registry.dimensions
        defaults = {
            "adversarial_classifier": self.registry.has_missing_proteins and dims.n_batches > 1,
            "pro_recons_weight": default_protein_weight(dims.n_genes, dims.n_proteins),
            "seed": self.seed,
        }
        run = read_run(arguments, options, configs, defaults, len(cells), self._knows_labels)
        split = split_cells(len(cells), seed=run.config.seed, **run.split)
        history, n_epochs = fit(self.module, cells, split, run.config, **run.trainer)
        self.history = _joined(self.history, history)
        self._split = split
        self.readout = None  # it has seen cells that are held out now
        record = {
            "options": run.config.to_dict(),
            "n_epochs": n_epochs,
            "n_cells": len(cells),
            "n_train": len(split.train),
            "n_validation": len(split.validation),
            "n_labelled": int((cells.label != UNLABELLED).sum()),
            "data_digest": data_digest(self.registry, cells),
        }
        # What a model is said to be made of is its reference, whatever it was adapted to since.
        self._training = {**self._adapted, "adapted_to": record} if self._adapted else record
        self.is_trained = True

    @property
    def train_indices(self) -> npt.NDArray[np.intp]:
        """Positions of the cells that trained."""
        return self._trained_split().train

    @property
    def validation_indices(self) -> npt.NDArray[np.intp]:
        """Positions of the cells that validated."""
        return self._trained_split().validation

    @property
    def test_indices(self) -> npt.NDArray[np.intp]:
        """Positions of the cells left for a test."""
        return self._trained_split().test

    def _trained_split(self) -> Split:
        if self._split is None:
            raise ArgumentError(
                "Expected a model that knows which cells trained it, found one that was not trained, or an old save, "
                "which keeps no split; call train()."
            )
        return self._split


def _joined(before: dict[str, pd.DataFrame], after: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """History of two runs, the epochs of the second counted on from those of the first."""
    n_epochs = max((int(frame.index[-1]) + 1 for frame in before.values() if len(frame)), default=0)
    moved = {name: frame.set_axis(frame.index + n_epochs, axis="index") for name, frame in after.items()}
    return {name: pd.concat([frames[name] for frames in (before, moved) if name in frames]) for name in before | moved}


def data_digest(registry: Registry, cells: Cells) -> str:
    """SHA-256 over names and counts: the same data in the same order gives the same digest."""
    digest = hashlib.sha256("\0".join((*registry.genes, *registry.proteins)).encode())
    digest.update(np.ascontiguousarray(cells.rna.indptr).data)
    for part in ("indices", "data"):
        for rows in slabs(cells.rna):
            digest.update(np.ascontiguousarray(getattr(rows, part)).data)
    for start in range(0, len(cells), _CELLS_AT_ONCE):
        digest.update(np.ascontiguousarray(cells.protein[start : start + _CELLS_AT_ONCE], np.float32).data)
    for codes in (cells.batch, cells.label):
        digest.update(np.ascontiguousarray(codes).data)
    return digest.hexdigest()
