"""Train totalVI and TotalANVI on CITE-seq references.

>>> from totalanvi.training import TOTALANVI
>>> TOTALANVI.setup_mudata(mdata, labels_key="cell_type", modalities={...})  # doctest: +SKIP
>>> model = TOTALANVI(mdata)  # doctest: +SKIP
>>> model.train()  # doctest: +SKIP

Names are imported when they are first used, so that the command line need not import torch to list its commands.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from totalanvi.training.errors import (
        ArgumentError,
        CheckpointError,
        CountsError,
        DivergenceError,
        MissingKeyError,
        ProcessesError,
        RegistrationError,
        TrainingError,
    )
    from totalanvi.training.fitting.training_config import TrainingConfig
    from totalanvi.training.models.totalanvi import TOTALANVI
    from totalanvi.training.models.totalvi import TOTALVI
    from totalanvi.training.network.augmentation import Augmentation
    from totalanvi.training.network.config import ModelConfig
    from totalanvi.training.scvi_import.checkpoint import import_scvi
    from totalanvi.training.simulation.simulate import simulate

__all__ = [
    "TOTALANVI",
    "TOTALVI",
    "ArgumentError",
    "Augmentation",
    "CheckpointError",
    "CountsError",
    "DivergenceError",
    "MissingKeyError",
    "ModelConfig",
    "ProcessesError",
    "RegistrationError",
    "TrainingConfig",
    "TrainingError",
    "import_scvi",
    "simulate",
]

_MODULES = {
    "TOTALANVI": "models.totalanvi",
    "TOTALVI": "models.totalvi",
    "Augmentation": "network.augmentation",
    "ModelConfig": "network.config",
    "TrainingConfig": "fitting.training_config",
    "import_scvi": "scvi_import.checkpoint",
    "simulate": "simulation.simulate",
}
"""Where a name lives; the others are errors."""


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return [*__all__]
