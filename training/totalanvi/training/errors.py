"""What can go wrong between a reference and its checkpoint.

Every error here is the user's to mend: its message says what was expected, what was found, and what to do. The command
line prints it and exits with ``exit_code``.

::

    TrainingError
    ├── RegistrationError   a reference cannot be registered: a missing key, no labelled cell, duplicate names
    │   └── CountsError     values that are not raw counts
    ├── CheckpointError     a checkpoint is missing, incomplete, of a newer version, or made by something else
    ├── ArgumentError       an argument that the model does not know: a batch, a protein, a negative count
    └── OutputError         an output exists already, or its suffix is unknown
"""

from __future__ import annotations

__all__ = ["ArgumentError", "CheckpointError", "CountsError", "OutputError", "RegistrationError", "TrainingError"]


class TrainingError(ValueError):
    """Base of every error that a user who trains can mend."""

    exit_code: int = 2


class RegistrationError(TrainingError):
    """A reference cannot be registered."""


class CountsError(RegistrationError):
    """Values that are not raw counts: negative, fractional, NaN or infinite."""


class CheckpointError(TrainingError):
    """A checkpoint is missing, incomplete, of a newer version, or made by something else."""


class ArgumentError(TrainingError):
    """An argument that the model does not know."""


class OutputError(TrainingError):
    """An output exists already, or its suffix is unknown."""
