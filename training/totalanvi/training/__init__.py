"""Train totalVI and TotalANVI on CITE-seq references."""

from totalanvi.training.config import Augmentation, ModelConfig, TrainingConfig
from totalanvi.training.errors import ArgumentError, CheckpointError, CountsError, RegistrationError, TrainingError
from totalanvi.training.model import TOTALVI
from totalanvi.training.semisupervised import TOTALANVI
from totalanvi.training.simulate import simulate

__all__ = [
    "TOTALANVI",
    "TOTALVI",
    "ArgumentError",
    "Augmentation",
    "CheckpointError",
    "CountsError",
    "ModelConfig",
    "RegistrationError",
    "TrainingConfig",
    "TrainingError",
    "simulate",
]
