"""Map queries at an endpoint: the same call as in process, with the computing elsewhere.

Features are agreed once, cells are aligned here, and only counts of genes that the reference knows travel, several
chunks at a time. A chunk that fails for a passing reason is sent again; when one fails for good, so does the query:
there is no partial result.

Nothing heavy is imported until it is needed, and never torch, ONNX Runtime or BentoML.
"""

from __future__ import annotations

import os

from totalanvi.serving.client.remote import RemoteReference

__all__ = ["Client"]

CHUNK_CELLS = 2048
"""Cells in a chunk unless asked otherwise: enough to fill the server's blocks and to outweigh what a request costs by
itself, few enough for several in flight."""


class Client(RemoteReference):
    """A reference at an endpoint.

    Parameters
    ----------
    url
        Where `totalanvi serve` answers, such as ``"http://localhost:3000"``.
    timeout
        Seconds to wait for one answer.
    concurrency
        Chunks in flight.
    chunk_cells
        Cells in a chunk; results do not depend on it.
    retries
        How often a chunk is sent again after a busy answer or a lost connection.
    api_key
        The endpoint's key, which is sent to this URL and nowhere else; None takes ``TOTALANVI_API_KEY`` of the
        environment, where it is set.
    allow_plain_http
        Whether the key may travel to another machine by plain HTTP, where all between can read it; None takes
        ``TOTALANVI_ALLOW_PLAIN_HTTP``.

    Raises
    ------
    EndpointError
        When the URL is none, the key would travel by plain HTTP and may not, or, from the first use on, when the
        endpoint cannot be reached, refuses, or speaks another protocol version.

    Examples
    --------
    >>> with Client("http://localhost:3000") as reference:  # doctest: +SKIP
    ...     annotated = reference.map(adata, proteins="protein_expression")
    """

    def __init__(
        self,
        url: str,
        timeout: float = 120,
        concurrency: int = 4,
        chunk_cells: int = CHUNK_CELLS,
        retries: int = 8,
        api_key: str | None = None,
        allow_plain_http: bool | None = None,
    ) -> None:
        from totalanvi.serving.client.transport import Transport

        if api_key is None:
            api_key = os.environ.get("TOTALANVI_API_KEY") or None
        if allow_plain_http is None:
            allow_plain_http = os.environ.get("TOTALANVI_ALLOW_PLAIN_HTTP", "").lower() in ("1", "true", "yes")
        super().__init__(Transport(url, timeout, retries, api_key, allow_plain_http), concurrency, chunk_cells)
