"""Compile what an engine needs while other things are read: half of a compilation holds no lock of Python."""

from __future__ import annotations

from contextlib import suppress
from threading import Thread

from totalanvi.serving.garbage import left_alone

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
    with left_alone(), suppress(ImportError):
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
