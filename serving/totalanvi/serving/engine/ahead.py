"""Compile what an engine needs while other things are read: half of a compilation holds no lock of Python."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock, Thread

__all__ = ["compile_ahead"]


def compile_ahead(*, readout: bool, paired: bool | None = None) -> None:
    """Start compiling in a thread; who needs a function before it is done waits for it, and compiles nothing twice.

    Parameters
    ----------
    readout
        Whether to compile what only a bundle with a readout needs as well.
    paired
        Whether weights of first layers are in pairs; None where that is not known yet, and nothing is compiled for
        them.

    Examples
    --------
    >>> compile_ahead(readout=False)
    """
    Thread(target=_compile, args=(readout, paired), name="totalanvi-compile", daemon=True).start()


def _compile(readout: bool, paired: bool | None) -> None:
    # Without numba, whoever needs the functions says so, in words that tell what to install.
    with _collector.resting(), suppress(ImportError):
        from totalanvi.serving.engine.curves import compiled_curves
        from totalanvi.serving.engine.nearest import compiled_search
        from totalanvi.serving.engine.neighbours import compiled_averages
        from totalanvi.serving.engine.sparse_rows import compiled_product

        compiled_search()
        compiled_averages()
        compiled_curves()
        if paired is not None:
            compiled_product(paired=paired)
        if readout:
            from totalanvi.serving.engine.density import compiled_least

            compiled_least()


class _Collector:
    """Python's garbage collector, which looks through all that was imported again and again while more is added."""

    def __init__(self) -> None:
        self._lock, self._n_resting, self._was_enabled = Lock(), 0, False

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Let it rest meanwhile: what numba and imports make stays. It took a tenth of a worker's start."""
        with self._lock:
            if self._n_resting == 0:
                self._was_enabled = gc.isenabled()
                gc.disable()
            self._n_resting += 1
        try:
            yield
        finally:
            with self._lock:
                self._n_resting -= 1
                if self._n_resting == 0 and self._was_enabled:
                    gc.enable()


_collector = _Collector()
