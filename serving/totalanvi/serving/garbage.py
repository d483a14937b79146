"""Python's garbage collector at rest: while much is imported, it looks through what is there again and again."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

__all__ = ["left_alone"]


class _Rest:
    lock = Lock()
    n_begun = 0
    was_enabled = False


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
