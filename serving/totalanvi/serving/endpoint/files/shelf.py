"""Uploaded files that stay for a while: so many, of so many bytes together, each removed when nobody asks for it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from totalanvi.serving.endpoint.access.account import account_name
from totalanvi.serving.endpoint.files.job import FileOptions
from totalanvi.serving.errors import BusyError, QueryError, TooLargeError
from totalanvi.serving.wire.limits import Limits

__all__ = ["Kept", "Shelf"]

_BUSY_SECONDS = 30


@dataclass(eq=False)
class Kept:
    """A file that stays, and how far it has come.

    Parameters
    ----------
    id
        What it is asked for by; nobody can guess it.
    owner
        The key that sent it; None where no keys are asked for.
    folder
        Where it lies, with what became of it.
    stay
        Ends with the folder.
    """

    id: str
    owner: str | None
    folder: Path
    stay: ExitStack
    stage: str = "receiving"
    cells: int = 0
    total: int | None = None
    bytes: int = 0
    """What the folder holds, or is to hold."""
    options: FileOptions = field(default_factory=FileOptions)
    """How it was mapped."""
    work: asyncio.Task[None] | None = None
    """Mapping it."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by whoever changes what is in the folder."""
    users: int = 0
    """Requests that need the folder."""
    timer: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> bool:
        """Whether something is done with it."""
        return self.users > 0 or self.lock.locked() or (self.work is not None and not self.work.done())

    def mapped(self, done: int, total: int) -> None:
        """Note how many cells are mapped, of how many."""
        self.stage, self.cells, self.total = "writing" if done == total else "mapping", done, total

    def lent(self) -> ExitStack:
        """Return what says, once it is closed, from whatever thread, that a request no longer needs the folder."""
        self.users += 1
        stay = ExitStack()
        stay.callback(asyncio.get_running_loop().call_soon_threadsafe, self._give_back)
        return stay

    def _give_back(self) -> None:
        self.users -= 1


class Shelf:
    """All files that stay; used from one event loop.

    Parameters
    ----------
    limits
        How many, how large and how long.
    room
        Gives a new folder.
    """

    def __init__(self, limits: Limits, room: Callable[[], AbstractContextManager[Path]]) -> None:
        self._limits = limits
        self._room = room
        self._kept: dict[str, Kept] = {}
        self._removals: set[asyncio.Task[None]] = set()

    def place(self, n_bytes: int) -> Kept:
        """Make room for a file of whoever is acted for.

        Parameters
        ----------
        n_bytes
            What it is expected to have.

        Raises
        ------
        BusyError
            When as many files stay as may, or as many bytes.
        """
        most, owner = self._limits.max_kept_files, account_name()
        own = sum(kept.owner == owner for kept in self._kept.values())
        # One key leaves room for the others.
        if len(self._kept) >= most or (owner is not None and own >= max(1, most // 2)):
            raise BusyError(
                f"Expected at most {most} files that stay here, and {max(1, most // 2)} of one key, found as many; "
                f"close pages that are done with theirs, or ask again in {_BUSY_SECONDS} s.",
                retry_after=_BUSY_SECONDS,
            )
        if self.bytes_left < n_bytes:
            raise BusyError(
                f"Expected room for {n_bytes} bytes beside the files that stay here, found {self.bytes_left}; ask "
                f"again in {_BUSY_SECONDS} s.",
                retry_after=_BUSY_SECONDS,
            )
        stay = ExitStack()
        kept = Kept(secrets.token_urlsafe(24), owner, stay.enter_context(self._room()), stay, bytes=n_bytes)
        self._kept[kept.id] = kept
        self._wind(kept)
        return kept

    @property
    def bytes_left(self) -> int:
        """What all files together may still take."""
        return max(0, self._limits.max_kept_bytes - sum(kept.bytes for kept in self._kept.values()))

    def find(self, name: str) -> Kept:
        """Return a file of whoever is acted for; its time begins anew.

        Raises
        ------
        QueryError
            When there is none of this name, or no longer, or it is somebody else's.
        """
        kept = self._kept.get(name)
        if kept is None or kept.owner != account_name():
            error = QueryError(
                "Expected the id of a file that stays here, found none such: a file is removed when nobody asks for "
                f"it for {self._limits.kept_seconds:g} s. Send it again."
            )
            error.http_status = 404
            raise error
        self._wind(kept)
        return kept

    async def weigh(self, kept: Kept) -> None:
        """Note how much a folder holds.

        Raises
        ------
        TooLargeError
            When that is more than there is room for; the file is removed then.
        """
        room = self.bytes_left + kept.bytes
        kept.bytes = await asyncio.to_thread(_size, kept.folder)
        if kept.bytes > room:
            await self.remove(kept)
            raise TooLargeError(
                f"Expected a file that takes at most {room} bytes with its results, found {kept.bytes}; send fewer "
                "cells, or map it with `totalanvi map`, which keeps nothing here."
            )

    async def remove(self, kept: Kept) -> None:
        """Stop what is done with a file and remove it, with all that became of it."""
        self._kept.pop(kept.id, None)
        if kept.timer is not None:
            kept.timer.cancel()
        if kept.work is not None and kept.work is not asyncio.current_task():
            kept.work.cancel()
            await asyncio.wait({kept.work})
        await asyncio.to_thread(kept.stay.close)

    async def close(self) -> None:
        """Remove all of them."""
        for kept in list(self._kept.values()):
            await self.remove(kept)
        if self._removals:
            await asyncio.wait(self._removals)

    def _wind(self, kept: Kept) -> None:
        if kept.timer is not None:
            kept.timer.cancel()
        kept.timer = asyncio.get_running_loop().call_later(self._limits.kept_seconds, self._expire, kept)

    def _expire(self, kept: Kept) -> None:
        if kept.busy:
            self._wind(kept)
            return
        removal = asyncio.ensure_future(self.remove(kept))
        self._removals.add(removal)
        removal.add_done_callback(self._removals.discard)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
