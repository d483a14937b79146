"""Columns of a MuData's modalities stay where they are, whichever mudata is installed."""

from __future__ import annotations

from contextlib import AbstractContextManager

__all__ = ["not_pulling"]


def not_pulling() -> AbstractContextManager[object]:
    """Keep MuData from copying its modalities' columns into its own tables, in the block.

    mudata 0.4 does so by default; those before warn of it, and name the option elsewhere.

    Examples
    --------
    >>> import mudata
    >>> with not_pulling():
    ...     empty = mudata.MuData({})
    """
    import mudata

    settings = getattr(mudata, "settings", None)
    setting = mudata.set_options if settings is None else settings.override
    block: AbstractContextManager[object] = setting(pull_on_update=False)
    return block
