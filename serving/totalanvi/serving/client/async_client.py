"""The client for programs that are asynchronous: the same calls, awaited."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from totalanvi.serving.client.client import Client
from totalanvi.serving.client.patience import Patience

if TYPE_CHECKING:
    from totalanvi.serving.features import ReferenceFeatures

__all__ = ["AsyncClient"]

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


def _awaited(
    method: Callable[Concatenate[Client, Arguments], Answer],
) -> Callable[Concatenate[AsyncClient, Arguments], Awaitable[Answer]]:
    """Turn a method of `Client` into one that waits in a thread."""

    async def call(self: AsyncClient, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
        return await self._call(method, *args, **kwargs)

    functools.update_wrapper(call, method)
    return call


class AsyncClient:
    """A reference at an endpoint, as `Client`, whose calls are awaited.

    Reading and aligning a query keeps a processor busy, whatever its requests do, so each call has a thread; a call
    that is cancelled sends nothing more, and ends when the answers that are on their way are there.

    Parameters
    ----------
    url, options
        As `Client` takes them.

    Examples
    --------
    >>> async with AsyncClient("http://localhost:3000") as reference:  # doctest: +SKIP
    ...     first, second = await asyncio.gather(reference.map(one), reference.map(other))
    """

    def __init__(self, url: str, **options: Any) -> None:
        self._client = Client(url, **options)

    @property
    def url(self) -> str:
        """The endpoint's address."""
        return self._client.url

    @property
    def reference(self) -> str | None:
        """Which of the endpoint's references was chosen, None for its default one."""
        return self._client.reference

    @property
    def in_flight(self) -> int:
        """How many chunks of a query are sent at a time."""
        return self._client.in_flight

    @property
    def chunk_cells(self) -> int:
        """Cells in a chunk unless `map` is told otherwise."""
        return self._client.chunk_cells

    map = _awaited(Client.map)
    info = _awaited(Client.info)
    score = _awaited(Client.score)

    async def features(self) -> ReferenceFeatures:
        """Return the features that queries are aligned to."""
        return await self._call(lambda client: client.features)

    async def close(self) -> None:
        """Close the connections."""
        await asyncio.to_thread(self._client.close)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _call(
        self,
        method: Callable[Concatenate[Client, Arguments], Answer],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Answer:
        patience = Patience(self._client.deadline)
        client = self._client.with_patience(patience)
        try:
            answer = await asyncio.to_thread(method, client, *args, **kwargs)
        except asyncio.CancelledError:
            patience.give_up()
            raise
        self._client.remember(client)
        return answer

    def __repr__(self) -> str:
        return f"Async{self._client!r}"
