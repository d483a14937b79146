"""Python's garbage collector at rest: while much is imported, it looks through what is there again and again."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

__all__ = ["left_alone"]


class _Rest:
    lock = Lock()
    n_begun = 0
    was_enabled = False

    @classmethod
    def end_in_child(cls) -> None:
        """Wake the collector in a forked process, which does not have the threads that would."""
        cls.lock = Lock()
        if cls.n_begun and cls.was_enabled:
            gc.enable()
        cls.n_begun = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_Rest.end_in_child)


@contextmanager
def left_alone() -> Iterator[None]:
    """Let the collector rest meanwhile, in whichever threads; afterwards it is as it was before the first of them.

    Examples
    --------
    >>> with left_alone():
    ...     gc.isenabled()
    False
    """
    with _Rest.lock:
        if _Rest.n_begun == 0:
            _Rest.was_enabled = gc.isenabled()
            gc.disable()
        _Rest.n_begun += 1
    try:
        yield
    finally:
        with _Rest.lock:
            _Rest.n_begun -= 1
            if _Rest.n_begun == 0 and _Rest.was_enabled:
                gc.enable()
