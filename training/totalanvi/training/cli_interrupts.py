"""What is left of a run that is told to end before it is done: nothing, in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from totalanvi.training.checkpoints.folder import CONFIG

__all__ = ["told_what_is_lost"]


@contextmanager
def told_what_is_lost(output: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Say that nothing was kept, when the block is interrupted or told to end before it has written a checkpoint.

    Parameters
    ----------
    output
        Folder of the checkpoint.
    tell
        Called with the sentence.
    """
    before = _written(output)
    try:
        yield
    except (KeyboardInterrupt, SystemExit):  # the command line makes the second one of SIGTERM
        if _written(output) == before:
            left = "is written when all is done" if before is None else "is what it was before"
            tell(
                f"Nothing of this run was kept: {output} {left}. In Python, train(resume_folder=...) keeps each epoch."
            )
        raise


def _written(output: Path) -> tuple[int, int] | None:
    """Tell one checkpoint in a folder from the next, `None` where there is none."""
    try:
        found = (output / CONFIG).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
