"""Which genes a query has, as a chunk says it: a bit a gene, in base64."""

from __future__ import annotations

import base64

import numpy as np
import numpy.typing as npt

from totalanvi.serving.errors import QueryError

__all__ = ["decode_present", "encode_present"]


def encode_present(present: npt.NDArray[np.bool_] | None) -> str | None:
    """Return the text for a mask of genes, None for all of them.

    Examples
    --------
    >>> encode_present(np.array([True, False, True]))
    'oA=='
    """
    return None if present is None else base64.b64encode(np.packbits(present).tobytes()).decode()


def decode_present(text: object, n_genes: int) -> npt.NDArray[np.bool_] | None:
    """Read the mask, (genes,).

    Raises
    ------
    QueryError
        When the text is not that of a mask of so many genes.

    Examples
    --------
    >>> decode_present("oA==", 3).tolist()
    [True, False, True]
    """
    if text is None:
        return None
    n_bytes = (n_genes + 7) // 8
    try:
        content = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except ValueError:  # of base64, and of text that is not ASCII
        content = b""
    bits = np.unpackbits(np.frombuffer(content, dtype=np.uint8)).astype(bool)
    if len(content) != n_bytes or bits[n_genes:].any():
        raise QueryError(
            f"present: expected null, or a bit for each of {n_genes} genes in base64, found something else; send what "
            "`encode_request` makes."
        )
    return bits[:n_genes]
