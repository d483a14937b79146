"""What a checkpoint holds of a model, and a model made of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from torch import Tensor, nn

from totalanvi.training.checkpoints.checkpoint import Checkpoint, package_versions
from totalanvi.training.checkpoints.reference_sample import ReferenceSample, sample_reference
from totalanvi.training.errors import CheckpointError
from totalanvi.training.fitting.split import Split
from totalanvi.training.models.attributes import ModelAttributes
from totalanvi.training.network.layers import BatchNorm
from totalanvi.training.network.model_options import CLASSIFIER_LIKE_ENCODER, model_config
from totalanvi.training.network.vae import TotalVAE
from totalanvi.training.registration.setup_note import Data, Setup

__all__ = ["CheckpointedModel"]


class CheckpointedModel(ModelAttributes):
    """A model that knows what of it a checkpoint holds."""

    _loaded_split: Split | None = None
    _loaded_sample: ReferenceSample | None = None

    def _attach(self, adata: Data) -> None:
        sample = self._sample()
        super()._attach(adata)
        self._loaded_sample, self._loaded_split = sample, self._split

    def _sample(self) -> ReferenceSample | None:
        """Cells of the reference that travel with a checkpoint; of a model that was adapted, still its reference's."""
        # The split of a model that was loaded is of its reference, and the data may be other cells.
        drawn_here = self._split is not None and self._split is not self._loaded_split and not self.registry.adapted
        if self._split is None or self._cells is None or not drawn_here:
            return self._loaded_sample
        return sample_reference(self._cells, self._split.train, self._split.validation, self.seed)

    def _as_checkpoint(self) -> Checkpoint:
        return Checkpoint(
            kind=type(self).__name__,
            weights=self.module.state_dict(),
            registry=self.registry,
            model=self.module.config.to_dict(),
            training=self._training or ({**self._adapted, "adapted_to": {}} if self._adapted else {}),
            history={
                name: {str(epoch): float(value) for epoch, value in frame[name].items()}
                for name, frame in self.history.items()
            },
            versions=package_versions(),
            sample=self._sample(),
            split=self._split,
            frozen=_frozen(self.module),
            trained_parts=dict(self.module.trained_parts),
            readout=self.readout,
            seed=self.seed,
            was_pretrained=self.was_pretrained,
        )

    def _restore(self, checkpoint: Checkpoint, folder: Path) -> None:
        """Become what a checkpoint holds, without data."""
        self.registry = checkpoint.registry
        try:
            self._setup = Setup(**checkpoint.registry.setup)
            config = model_config(**CLASSIFIER_LIKE_ENCODER | checkpoint.model)
            self.module = self._module_class.unfilled(checkpoint.registry.dimensions, config)
            _load_weights(self.module, checkpoint.weights)
            _freeze(self.module, checkpoint.frozen)
        except (RuntimeError, LookupError, TypeError, ValueError) as error:
            first = " ".join(str(error).split("\n\t")[:2])  # torch names every weight
            raise CheckpointError(
                f"Expected a checkpoint at {folder} whose files belong together, found some that do not ({first}); "
                "train again, or restore the folder."
            ) from error
        self.module.trained_parts = dict(checkpoint.trained_parts)
        self._tell_module()
        self.module.eval()
        self.seed = checkpoint.seed
        self.was_pretrained = checkpoint.was_pretrained
        self._split = self._loaded_split = checkpoint.split
        self._loaded_sample = checkpoint.sample
        self.readout = checkpoint.readout
        self.is_trained = checkpoint.is_trained
        self._training = checkpoint.training if checkpoint.is_trained else {}
        # A model that was adapted is still made of its reference, trained on or not.
        reference = {name: value for name, value in checkpoint.training.items() if name != "adapted_to"}
        self._adapted = reference if self.registry.adapted else {}
        self.history = {
            name: pd.DataFrame({name: list(values.values())}, index=pd.Index([int(e) for e in values], name="epoch"))
            for name, values in checkpoint.history.items()
        }


def _frozen(module: TotalVAE) -> tuple[str, ...]:
    """Names of parameters that do not train, of batch norms that keep their statistics, of dropouts that are off."""
    parameters = [name for name, weight in module.named_parameters() if not weight.requires_grad]
    layers = [
        name
        for name, layer in module.named_modules()
        if (isinstance(layer, BatchNorm) and layer.frozen) or (isinstance(layer, nn.Dropout) and layer.p == 0)
    ]
    return (*parameters, *layers)


def _freeze(module: TotalVAE, names: Sequence[str]) -> None:
    """Do what `_frozen` found."""
    parameters, layers = dict(module.named_parameters()), dict(module.named_modules())
    for name in names:
        layer = layers.get(name)
        if isinstance(layer, BatchNorm):
            layer.frozen = True
        elif isinstance(layer, nn.Dropout):
            layer.p = 0.0
        else:
            parameters[name].requires_grad_(False)


def _load_weights(module: TotalVAE, weights: dict[str, Tensor]) -> None:
    # Version 1 kept a prior of the library even where no network reads it.
    known = module.state_dict().keys()
    module.load_state_dict({name: w for name, w in weights.items() if name in known or name != "library_prior"})
