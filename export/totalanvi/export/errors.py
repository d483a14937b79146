"""What can go wrong between a checkpoint and its bundle.

Every error here says what was expected, what was found, and what to do. The command line prints it and exits with
``exit_code``. Whatever export itself finds wrong is an `ExportError`. What it calls keeps its own errors, which have an
``exit_code`` as well: a checkpoint that cannot be read raises `totalanvi.training.CheckpointError`, a bundle that
cannot be opened `totalanvi.serving.errors.BundleError`.

::

    ExportError
    ├── SourceError     no checkpoint, or one that cannot be served: no labels, no cells of its reference
    ├── TargetError     the output exists already, or is something else; a name that no store takes
    ├── GraphError      a graph does not have the inputs and outputs that serving expects
    ├── ParityError     a graph's output differs from what torch computes
    ├── PrecisionError  a precision that no bundle has, or that does not hold the weights
    ├── ParentsError    a table of parents that does not fit the labels
    └── DemoError       the demo's endpoint finds no port, or does not get ready
"""

from __future__ import annotations

__all__ = [
    "DemoError",
    "ExportError",
    "GraphError",
    "ParentsError",
    "ParityError",
    "PrecisionError",
    "SourceError",
    "TargetError",
]


class ExportError(ValueError):
    """Base of every error that a user who exports can mend."""

    exit_code: int = 2


class SourceError(ExportError):
    """A checkpoint that cannot be served, or cells or a bundle in the place of one."""


class TargetError(ExportError):
    """An output that exists already, or is something else than what is to be made; a name that no store takes."""


class GraphError(ExportError):
    """A graph that does not have the inputs and outputs that serving expects."""


class ParityError(ExportError):
    """A graph's output that differs from what torch computes."""


class PrecisionError(ExportError):
    """A precision that no bundle has, or that does not hold the weights."""


class ParentsError(ExportError):
    """A table of parents that cannot be read, or does not fit the labels."""


class DemoError(ExportError):
    """The demo's endpoint, which finds no port, or does not get ready."""
