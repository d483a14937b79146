"""What a checkpoint holds of a model, and a model made of it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from torch import Tensor

from totalanvi.training.base import model_config
from totalanvi.training.checkpoint import Checkpoint, package_versions
from totalanvi.training.errors import CheckpointError
from totalanvi.training.model_attributes import ModelAttributes
from totalanvi.training.reference_sample import ReferenceSample, sample_reference
from totalanvi.training.registration import Setup
from totalanvi.training.split import Split
from totalanvi.training.vae import TotalVAE

__all__ = ["CheckpointedModel"]


class CheckpointedModel(ModelAttributes):
    """A model that knows what of it a checkpoint holds."""

    _loaded_split: Split | None = None
    _loaded_sample: ReferenceSample | None = None

    def _as_checkpoint(self) -> Checkpoint:
        sample = self._loaded_sample
        # The split that was loaded is of the reference, and the data may be other cells.
        if self._split is not None and self._split is not self._loaded_split and self._cells is not None:
            sample = sample_reference(self._cells, self._split.train, self._split.validation, self.seed)
        return Checkpoint(
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
            split=self._split,
            frozen=tuple(name for name, weight in self.module.named_parameters() if not weight.requires_grad),
            trained_parts=vars(self.module).get("partly_frozen", {}),
        )

    def _restore(self, checkpoint: Checkpoint, folder: Path) -> None:
        """Become what a checkpoint holds, without data."""
        self.registry = checkpoint.registry
        try:
            self._setup = Setup(**checkpoint.registry.setup)
            self.module = self._module_class(checkpoint.registry.dimensions, model_config(**checkpoint.model))
            _load_weights(self.module, checkpoint.weights)
            parameters = dict(self.module.named_parameters())
            for name in checkpoint.frozen:
                parameters[name].requires_grad_(False)
        except (RuntimeError, LookupError, TypeError, ValueError) as error:
            first = " ".join(str(error).split("\n\t")[:2])  # torch names every weight
            raise CheckpointError(
                f"Expected a checkpoint at {folder} whose files belong together, found some that do not ({first}); "
                "train again, or restore the folder."
            ) from error
        if checkpoint.trained_parts:
            vars(self.module)["partly_frozen"] = checkpoint.trained_parts
        self.module.eval()
        self.seed = int(checkpoint.training.get("options", {}).get("seed", 0))
        self._split = self._loaded_split = checkpoint.split
        self._loaded_sample = checkpoint.sample
        self.is_trained = bool(checkpoint.training)
        self._training = checkpoint.training
        self.history = {
            name: pd.DataFrame({name: list(values.values())}, index=pd.Index([int(e) for e in values], name="epoch"))
            for name, values in checkpoint.history.items()
        }


def _load_weights(module: TotalVAE, weights: dict[str, Tensor]) -> None:
    # Version 1 kept a prior of the library even where no network reads it.
    known = module.state_dict().keys()
    module.load_state_dict({name: w for name, w in weights.items() if name in known or name != "library_prior"})
