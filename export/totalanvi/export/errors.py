"""What can go wrong between a checkpoint and its bundle.

Every error here says what was expected, what was found, and what to do. The command line prints it and exits with
``exit_code``. Checkpoints that cannot be read raise `totalanvi.training.CheckpointError`, bundles that cannot be opened
`totalanvi.serving.errors.BundleError`; both have an ``exit_code`` as well.

::

    ExportError
    ├── SourceError     a checkpoint that cannot be served: no labels, no cells of its reference
    ├── TargetError     the output exists already, or is something else than a bundle; a name that no store takes
    ├── GraphError      a graph does not have the inputs and outputs that serving expects
    └── ParityError     a graph's output differs from what torch computes
"""

from __future__ import annotations

__all__ = ["ExportError", "GraphError", "ParityError", "SourceError", "TargetError"]


class ExportError(ValueError):
    """Base of every error that a user who exports can mend."""

    exit_code: int = 2


class SourceError(ExportError):
    """A checkpoint that cannot be served."""


class TargetError(ExportError):
    """An output that exists already, or is something else than a bundle; a name that no store takes."""


class GraphError(ExportError):
    """A graph that does not have the inputs and outputs that serving expects."""


class ParityError(ExportError):
    """A graph's output that differs from what torch computes."""
