"""``train``: from a model that is built to one that knows its reference."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from totalanvi.training.base import BaseModel
from totalanvi.training.data import Cells
from totalanvi.training.errors import ArgumentError
from totalanvi.training.fit import fit
from totalanvi.training.registry import Registry
from totalanvi.training.split import Split, split_cells
from totalanvi.training.training_config import Augmentation, TrainingConfig

__all__ = ["TrainableModel"]

_MINI_BATCHES = 4_000
_MOST_WARM_UP_EPOCHS = 50


class TrainableModel(BaseModel):
    """A model that can be trained, and remembers how it was."""

    history: dict[str, pd.DataFrame]
    _split: Split | None = None
    _training: dict[str, Any]

    def train(
        self,
        max_epochs: int | None = None,
        lr: float = 4e-3,
        accelerator: str = "auto",
        devices: Any = "auto",
        train_size: float | None = None,
        validation_size: float | None = None,
        shuffle_set_split: bool = True,
        batch_size: int = 256,
        early_stopping: bool = True,
        reduce_lr_on_plateau: bool = True,
        n_steps_kl_warmup: int | None = None,
        n_epochs_kl_warmup: int | None = None,
        adversarial_classifier: bool | None = None,
        plan_kwargs: dict[str, Any] | None = None,
        external_indexing: Sequence[npt.NDArray[np.intp]] | None = None,
        augmentation: Augmentation | None = None,
        seed: int | None = None,
        progress: bool = True,
        resume_folder: str | Path | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        """Train the model.

        Parameters
        ----------
        max_epochs
            Most passes over the training cells; by default as many as make 4,000 mini-batches, from 20 to 400.
        lr
            Learning rate.
        accelerator, devices
            As Lightning takes them.
        train_size, validation_size, shuffle_set_split, external_indexing
            Which cells train and which validate; see `totalanvi.training.split`.
        batch_size
            Cells in a mini-batch.
        early_stopping, reduce_lr_on_plateau
            What to do when the validation ELBO stops improving.
        n_steps_kl_warmup, n_epochs_kl_warmup
            Length of the warm-up of the divergences; by default half of the epochs, 50 at most.
        adversarial_classifier
            Train batches to mix; by default where panels lack proteins.
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
        **trainer_kwargs
            Further options of Lightning's ``Trainer``.

        Raises
        ------
        ArgumentError
            For options that are unknown or out of range.
        CheckpointError
            When what is in ``resume_folder`` cannot be read, or is a run of another model or with other options.
        """
        cells = self._reference_cells()
        seed = self.seed if seed is None else seed
        max_epochs = _default_epochs(len(cells), batch_size) if max_epochs is None else max_epochs
        in_steps = n_steps_kl_warmup is not None or (plan_kwargs or {}).get("n_steps_kl_warmup") is not None
        if n_epochs_kl_warmup is None and not in_steps:
            n_epochs_kl_warmup = min(_MOST_WARM_UP_EPOCHS, max_epochs // 2)
        options = {
            "max_epochs": max_epochs,
            "batch_size": batch_size,
            "lr": lr,
            "early_stopping": early_stopping,
            "reduce_lr_on_plateau": reduce_lr_on_plateau,
            "n_steps_kl_warmup": n_steps_kl_warmup,
            "n_epochs_kl_warmup": n_epochs_kl_warmup,
            "adversarial_classifier": (
                self.registry.has_missing_proteins if adversarial_classifier is None else adversarial_classifier
            ),
            "pro_recons_weight": _default_protein_weight(len(self.registry.genes), len(self.registry.proteins)),
            "seed": seed,
            **({} if augmentation is None else {"augmentation": augmentation}),
        }
        config = _training_config(options | (plan_kwargs or {}))
        split = split_cells(len(cells), train_size, validation_size, shuffle_set_split, seed, external_indexing)
        self.history, n_epochs = fit(
            self.module,
            cells,
            split,
            config,
            accelerator=accelerator,
            devices=devices,
            progress=progress,
            resume_folder=None if resume_folder is None else Path(resume_folder),
            **trainer_kwargs,
        )
        self._split = split
        self._training = {
            "options": config.to_dict(),
            "n_epochs": n_epochs,
            "n_cells": len(cells),
            "n_train": len(split.train),
            "n_validation": len(split.validation),
            "n_labelled": int((cells.label >= 0).sum()),
            "data_digest": _digest(self.registry, cells),
        }
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
                "Expected a model that was trained in this process, found another, which keeps no split; call train()."
            )
        return self._split


def _training_config(options: dict[str, Any]) -> TrainingConfig:
    known = {field.name for field in fields(TrainingConfig)}
    if unknown := options.keys() - known:
        raise ArgumentError(
            f"Expected training options out of {', '.join(sorted(known))}, found {', '.join(sorted(unknown))}; "
            "leave these out."
        )
    # NumPy's numbers have no place in Lightning's arguments, nor in the checkpoint's JSON.
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in options.items()}
    return replace(TrainingConfig(), **plain)


def _default_epochs(n_cells: int, batch_size: int) -> int:
    """Enough passes for 4,000 mini-batches: what small references lack in cells they make up for in passes."""
    return max(20, min(400, round(_MINI_BATCHES * max(1, batch_size) / n_cells)))


def _default_protein_weight(n_genes: int, n_proteins: int) -> float:
    """How much more a protein's likelihood weighs than a gene's."""
    return max(1.0, 0.5 * math.sqrt(n_genes / n_proteins))


def _digest(registry: Registry, cells: Cells) -> str:
    """SHA-256 over names and counts: the same data in the same order gives the same digest."""
    digest = hashlib.sha256("\0".join((*registry.genes, *registry.proteins)).encode())
    for array in (cells.rna.indptr, cells.rna.indices, cells.rna.data, cells.protein, cells.batch, cells.label):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
