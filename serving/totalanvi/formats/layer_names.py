"""Names of an AnnData's layers, whichever anndata is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["layer_names"]


def layer_names(adata: AnnData) -> list[str]:
    """Return the names of the layers that have one: from anndata 0.13 on, ``X`` is among the others, as `None`.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> layer_names(AnnData(np.eye(2), layers={"counts": np.eye(2)}))
    ['counts']
    """
    return [name for name in adata.layers if name is not None]
