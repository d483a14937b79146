"""``save`` and ``load``: a model as a checkpoint, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import pandas as pd

from totalanvi.training.base import Data
from totalanvi.training.checkpoint import (
    Checkpoint,
    ReferenceSample,
    package_versions,
    read_checkpoint,
    require_writable,
    sample_reference,
    write_checkpoint,
)
from totalanvi.training.errors import CheckpointError
from totalanvi.training.model_options import model_config
from totalanvi.training.registration import Setup, read_cells
from totalanvi.training.trainable import TrainableModel

__all__ = ["SavableModel"]


class SavableModel(TrainableModel):
    """A model that can be written and read."""

    _loaded_sample: ReferenceSample | None = None

    def save(self, dir_path: str | Path, overwrite: bool = False) -> None:
        """Write a checkpoint: safetensors and JSON, no pickle.

        Parameters
        ----------
        dir_path
            Folder to make.
        overwrite
            Replace a checkpoint that is there.

        Raises
        ------
        CheckpointError
            When the folder exists and may not be replaced.
        """
        folder = Path(dir_path)
        require_writable(folder, overwrite)
        sample = self._loaded_sample
        if self._split is not None and self._cells is not None:
            sample = sample_reference(self._cells, self._split.train, self._split.validation, self.seed)
        write_checkpoint(
            folder,
            Checkpoint(
                kind=type(self).__name__,
                weights=self.module.state_dict(),
                registry=self.registry,
                model=self.module.config.to_dict(),
                training=self._training,
                history={
                    name: {str(epoch): float(value) for epoch, value in frame[name].items()}
                    for name, frame in self.history.items()
                },
                versions=package_versions(),
                sample=sample,
            ),
            overwrite,
        )

    @classmethod
    def load(cls, dir_path: str | Path, adata: Data | None = None) -> Self:
        """Read a checkpoint.

        Parameters
        ----------
        dir_path
            Folder that `save` or ``totalanvi train`` wrote.
        adata
            Data to attach, registered like the reference or with its features and columns; without it, the results need
            data given to them.

        Raises
        ------
        CheckpointError
            When the checkpoint is not whole, or of another class.
        """
        checkpoint = read_checkpoint(Path(dir_path))
        if checkpoint.kind != cls.__name__:
            raise CheckpointError(
                f"Expected a checkpoint of {cls.__name__} at {dir_path}, found one of {checkpoint.kind}; load it with "
                f"{checkpoint.kind}.load(...)."
            )
        model = cls.__new__(cls)
        model.registry = checkpoint.registry
        try:
            model._setup = Setup(**checkpoint.registry.setup)
            model.module = cls._module_class(checkpoint.registry.dimensions, model_config(**checkpoint.model))
            model.module.load_state_dict(checkpoint.weights)
        except (RuntimeError, LookupError, TypeError, ValueError) as error:
            first = " ".join(str(error).split("\n\t")[:2])  # torch names every weight
            raise CheckpointError(
                f"Expected a checkpoint at {dir_path} whose files belong together, found some that do not ({first}); "
                "train again, or restore the folder."
            ) from error
        model.module.eval()
        model.adata = adata
        model._cells = None if adata is None else read_cells(adata, model._setup, model.registry)
        model.seed = int(checkpoint.training.get("options", {}).get("seed", 0))
        model._loaded_sample = checkpoint.sample
        model.is_trained = bool(checkpoint.training)
        model._training = checkpoint.training
        model.history = {
            name: pd.DataFrame({name: list(values.values())}, index=pd.Index([int(e) for e in values], name="epoch"))
            for name, values in checkpoint.history.items()
        }
        return model
