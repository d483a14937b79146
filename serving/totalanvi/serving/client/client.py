"""Map queries at an endpoint: the same call as in process, with the computing elsewhere.

Features are agreed once, cells are aligned here, and only counts of genes that the reference knows travel, several
chunks at a time. A chunk that fails for a passing reason is sent again; when one fails for good, so does the query:
there is no partial result.

Nothing heavy is imported until it is needed, and never torch, ONNX Runtime or BentoML.
"""

from __future__ import annotations

import copy
import os

from totalanvi.serving.client.answer_cache import AnswerCache
from totalanvi.serving.client.patience import Patience
from totalanvi.serving.client.remote import RemoteReference

__all__ = ["Client"]

CHUNK_CELLS = 2048
"""Cells in a chunk unless asked otherwise: enough to fill the server's blocks and to outweigh what a request costs by
itself, few enough for several in flight."""


class Client(RemoteReference):
    """A reference at an endpoint.

    Several chunks are in flight at a time and no more are in memory; their results are in the order of the cells. A
    query is mapped as a whole, or an error is raised.

    Parameters
    ----------
    url
        Where `totalanvi serve` answers, such as ``"http://localhost:3000"``. An endpoint may serve several references:
        ``"http://localhost:3000?reference=pbmc"`` chooses one, as `reference` does.
    timeout
        Seconds to wait for one answer.
    concurrency
        Chunks in flight.
    chunk_cells
        Cells in a chunk; results do not depend on it.
    retries
        How often a chunk is sent again after a busy answer or a lost connection, after waits that double and are
        scattered, and are as long as the endpoint asks for; twice at most where no answer came in time. What it is
        mapped to is the same each time.
    deadline
        Seconds for a query as a whole, from the call of `map` on; None for any time.
    resume
        A folder in which answers are kept, and found by a later run of the same query; None keeps none.
    api_key
        The endpoint's key, which is sent to this URL and nowhere else; None takes ``TOTALANVI_API_KEY`` of the
        environment, where it is set.
    allow_plain_http
        Whether the key may travel to another machine by plain HTTP, where all between can read it; None takes
        ``TOTALANVI_ALLOW_PLAIN_HTTP``.
    reference
        Which of the endpoint's references is meant: a name, or ``NAME@VERSION``; its default one when left out.

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

    _patience: Patience | None = None
    """Of the one query that this copy is for."""

    def __init__(
        self,
        url: str,
        timeout: float = 120,
        concurrency: int = 4,
        chunk_cells: int = CHUNK_CELLS,
        retries: int = 8,
        deadline: float | None = None,
        resume: str | os.PathLike[str] | None = None,
        api_key: str | None = None,
        allow_plain_http: bool | None = None,
        *,
        reference: str | None = None,
    ) -> None:
        from totalanvi.serving.client.chosen import split_reference
        from totalanvi.serving.client.transport import Transport

        if api_key is None:
            api_key = os.environ.get("TOTALANVI_API_KEY") or None
        if allow_plain_http is None:
            allow_plain_http = os.environ.get("TOTALANVI_ALLOW_PLAIN_HTTP", "").lower() in ("1", "true", "yes")
        self.deadline = deadline
        address, chosen = split_reference(url, reference)
        self._transport = Transport(address, timeout, retries, api_key, allow_plain_http)
        answers = None if resume is None else AnswerCache(resume)
        super().__init__(self._transport, concurrency, chunk_cells, answers, reference=chosen)

    def with_patience(self, patience: Patience) -> Client:
        """Return this client, as it is for one query that is given so much time."""
        other = copy.copy(self)
        other._carrier = self._transport.with_patience(patience)
        other._patience = patience
        return other

    def remember(self, other: Client) -> None:
        """Take over what a copy of this client has learnt of the reference."""
        self._info, self._features = other._info, other._features

    def forget_answers(self) -> None:
        """Remove the answers that were kept for a later run, once the query is done and its results are elsewhere."""
        if self._answers is not None:
            self._answers.clear()

    def _for_query(self) -> Client:
        client = self if self._patience is not None else self.with_patience(Patience(self.deadline))
        client._refresh()
        self.remember(client)
        return client
