"""What can go wrong between a reference and its checkpoint.

Every error here is the user's to mend: its message says what was expected, what was found, and what to do. The command
line prints it and exits with ``exit_code``.

::

    TrainingError
    ├── RegistrationError   cells cannot be registered: no labelled cell, duplicate names, genes that are missing
    │   ├── CountsError     values that are not raw counts
    │   └── MissingKeyError a column, table, layer or modality that is not there; also a KeyError
    ├── CheckpointError     a checkpoint is missing, incomplete, of a newer version, or made by something else
    ├── ArgumentError       an argument that makes no sense: an unknown batch, a negative number, a text for a flag
    ├── DivergenceError     training whose loss is no number any more
    ├── ProcessesError      a process of a run on several devices has ended, or cannot be reached
    └── OutputError         an output exists already, has an unknown suffix, or the name of another output
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "ArgumentError",
    "CheckpointError",
    "CountsError",
    "DivergenceError",
    "MissingKeyError",
    "OutputError",
    "ProcessesError",
    "RegistrationError",
    "TrainingError",
    "listed",
]


class TrainingError(ValueError):
    """Base of every error that a user who trains can mend."""

    exit_code: int = 2


class RegistrationError(TrainingError):
    """A reference, or a query, cannot be registered."""


class CountsError(RegistrationError):
    """Values that are not raw counts: negative, fractional, NaN or infinite."""


class MissingKeyError(RegistrationError, KeyError):
    """A column, table, layer or modality that is not there.

    It is a `KeyError` too: scripts that ask for data without proteins catch that.
    """

    def __str__(self) -> str:
        # A KeyError shows its message in quotes.
        return str(self.args[0]) if self.args else ""


class CheckpointError(TrainingError):
    """A checkpoint is missing, incomplete, of a newer version, or made by something else."""


class ArgumentError(TrainingError):
    """An argument that makes no sense: an unknown batch, a number out of range, a value of another type."""


class DivergenceError(TrainingError):
    """Training whose loss is no number any more."""


class ProcessesError(TrainingError):
    """A process of a run on several devices has ended, or cannot be reached."""


class OutputError(TrainingError):
    """An output exists already, has an unknown suffix, or the name of another output."""


def listed(names: Iterable[object], most: int = 8) -> str:
    """Names for a message: the first few, and how many there are."""
    texts = [str(name) for name in names]
    shown = ", ".join(texts[:most]) or "none"
    return f"{shown}, … ({len(texts)} in all)" if len(texts) > most else shown
