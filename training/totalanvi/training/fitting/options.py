"""From the arguments of ``train`` to what a run needs: options under the names of scvi-tools, each with one owner.

An option may be given in several places. The argument of ``train`` wins over ``plan_kwargs``, ``datasplitter_kwargs``
and ``**trainer_kwargs``; these win over ``plan_config`` and ``trainer_config``; these over the defaults. `None` is no
value anywhere: it leaves an option to the next place, but for ``augmentation`` in a dictionary, where it means
that nothing is hidden.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, TypeAlias

import lightning as L
import numpy as np

from totalanvi.training.checks import as_whole, require_flags
from totalanvi.training.errors import ArgumentError
from totalanvi.training.fitting.training_config import TrainingConfig, default_warm_up

__all__ = ["Options", "Run", "default_epochs", "default_protein_weight", "read_run"]


class _Expandable(Protocol):
    def to_kwargs(self) -> dict[str, Any]: ...


Options: TypeAlias = Mapping[str, Any] | _Expandable
"""Options by name, or an object whose ``to_kwargs()`` returns them, as the configurations of scvi-tools do."""

_MINI_BATCHES = 4_000

_CONFIG = {field.name for field in fields(TrainingConfig)}
_SPLIT = {"train_size", "validation_size", "shuffle_set_split", "external_indexing"}
_FIT = {"accelerator", "devices", "num_nodes", "strategy", "resume_folder", "num_workers", "cuda_graphs", "callbacks"}
_PROGRESS = {"progress", "enable_progress_bar", "simple_progress_bar", "progress_bar_refresh_rate"}
_LIGHTNING = set(inspect.signature(L.Trainer.__init__).parameters) - {"self"}
_OF_LABELS = {"n_samples_per_label", "classification_ratio"}

_FIXED = {
    "compile": False,
    "compile_kwargs": None,
    "update_only_decoder": False,
    "on_step": False,
    "on_epoch": True,
    "pin_memory": False,
    "distributed_sampler": False,
    "use_distributed_sampler": False,
    "sync_batchnorm": False,
    "drop_dataset_tail": False,
    "enable_checkpointing": False,
}
"""Options of scvi-tools that are taken with this value only."""

_PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
_OTHER_NAMES_OF_PRECISIONS = (32, "32", "bf16", 16, "16")

_IDLE = {"load_sparse_tensor", "learning_rate_monitor", "checkpointing_monitor"}
"""Options of scvi-tools that change nothing: RNA is sparse up to the device, the history has the rate anyway."""

_INSTEAD = {
    "kl_weight": "set max_kl_weight and min_kl_weight",
    "datamodule": "give the cells to the model",
    "ckpt_path": "give resume_folder",
    "enable_checkpointing": "give resume_folder to keep the state of the run, and save() the model",
    "log_save_dir": "save() keeps the history with the model",
    "gradient_clip_val": 'give plan_kwargs={"gradient_clip": ...}',
    "accumulate_grad_batches": "raise batch_size",
    "sync_batchnorm": "use layer norm, the default, which looks at one cell at a time",
}
"""What to do in place of options that are refused."""


@dataclass(frozen=True)
class Run:
    """What a run of training needs beside the model and its cells."""

    config: TrainingConfig
    split: dict[str, Any]
    """Arguments of `totalanvi.training.fitting.split.split_cells`."""
    trainer: dict[str, Any]
    """Arguments of `totalanvi.training.fitting.fit.fit`, those of Lightning's trainer among them."""


def read_run(
    arguments: Mapping[str, Any],
    options: tuple[Options | None, ...],
    configs: tuple[Options | None, ...],
    defaults: Mapping[str, Any],
    n_cells: int,
    knows_labels: bool,
) -> Run:
    """Bring together what is given in several places.

    Parameters
    ----------
    arguments
        Arguments of ``train`` by name; `None` for those that were not given.
    options, configs
        Dictionaries that come next, and those that come after them.
    defaults
        What the model makes of nothing.
    n_cells
        Number of cells, for the number of epochs.
    knows_labels
        Whether the model has a classifier.

    Raises
    ------
    ArgumentError
        For options that are unknown, out of range, or without meaning for the model.
    """
    pool: dict[str, Any] = {}
    for layer in (*configs, *options):
        pool |= _expand(layer)
    # What is "auto" is left to the dictionaries, like what is `None`.
    given = {name: value for name, value in _plain(arguments).items() if value is not None}
    pool |= {name: value for name, value in given.items() if not (isinstance(value, str) and value == "auto")}
    _refuse(pool, knows_labels)
    pool = {name: value for name, value in pool.items() if name not in _FIXED and name not in _IDLE}
    return Run(
        config=_config(dict(defaults) | {name: value for name, value in pool.items() if name in _CONFIG}, n_cells),
        split={name: value for name, value in pool.items() if name in _SPLIT},
        trainer={name: value for name, value in pool.items() if name not in _CONFIG | _SPLIT | _PROGRESS}
        | _progress(**{name: value for name, value in pool.items() if name in _PROGRESS}),
    )


def _expand(options: Options | None) -> dict[str, Any]:
    """Options as a dictionary, those without a value left out."""
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        if not hasattr(options, "to_kwargs"):
            raise ArgumentError(f"Expected options in a dictionary, found a {type(options).__name__}; make it one.")
        options = options.to_kwargs()
    return {name: value for name, value in _plain(options).items() if value is not None or name == "augmentation"}


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with NumPy's numbers as Python's: they go to JSON."""
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in options.items()}


def _refuse(pool: dict[str, Any], knows_labels: bool) -> None:
    for name, only in _FIXED.items():
        if name in pool and pool[name] != only:
            instead = _INSTEAD.get(name, "leave it out")
            raise ArgumentError(f"{name}: expected {only}, found {pool[name]!r}; {instead}.")
    known = _CONFIG | _SPLIT | _FIT | _PROGRESS | (_LIGHTNING - _INSTEAD.keys()) | _FIXED.keys() | _IDLE
    if unknown := sorted(pool.keys() - known):
        instead = "; ".join(f"{name}: {_INSTEAD[name]}" for name in unknown if name in _INSTEAD)
        raise ArgumentError(
            f"Expected training options out of {', '.join(sorted(_CONFIG | _SPLIT | _FIT))} and those of Lightning's "
            f"Trainer, found {', '.join(unknown)}; {instead or 'leave these out'}."
        )
    precision = pool.get("precision", "32-true")
    if precision not in (*_PRECISIONS, *_OTHER_NAMES_OF_PRECISIONS):
        raise ArgumentError(
            f"precision: expected one of {', '.join(_PRECISIONS)}, for weights are of single precision, found "
            f"{precision!r}; choose one of them."
        )
    if not knows_labels and (without := sorted(_OF_LABELS & pool.keys())):
        raise ArgumentError(
            f"{', '.join(without)}: expected a model with labels, found TOTALVI; leave it out, or train TOTALANVI."
        )


def _config(options: dict[str, Any], n_cells: int) -> TrainingConfig:
    config = TrainingConfig(**options)
    if "max_epochs" not in options:
        config = replace(config, max_epochs=default_epochs(n_cells, config.batch_size))
    if config.n_epochs_kl_warmup is None and config.n_steps_kl_warmup is None:
        config = replace(config, n_epochs_kl_warmup=default_warm_up(config.max_epochs))
    return config


def _progress(
    progress: bool = True,
    enable_progress_bar: bool = True,
    simple_progress_bar: bool = True,
    progress_bar_refresh_rate: int = 1,
) -> dict[str, Any]:
    """Our line that counts epochs, Lightning's bar that counts mini-batches, or neither."""
    require_flags(progress=progress, enable_progress_bar=enable_progress_bar, simple_progress_bar=simple_progress_bar)
    refreshes = as_whole("progress_bar_refresh_rate", progress_bar_refresh_rate, 0) > 0
    shown = progress and enable_progress_bar and refreshes
    return {"progress": shown and simple_progress_bar, "enable_progress_bar": shown and not simple_progress_bar}


def default_epochs(n_cells: int, batch_size: int) -> int:
    """Enough passes for 4,000 mini-batches: what small references lack in cells they make up for in passes."""
    return max(20, min(400, round(_MINI_BATCHES * batch_size / n_cells)))


def default_protein_weight(n_genes: int, n_proteins: int) -> float:
    """How much more a protein's likelihood weighs than a gene's."""
    return max(1.0, 0.5 * math.sqrt(n_genes / n_proteins))
