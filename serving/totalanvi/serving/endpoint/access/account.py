"""What a key has used of what it may: requests by the minute, cells by the day.

It is kept in this process: whoever restarts the endpoint starts the day anew.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from totalanvi.serving.endpoint.access.keys import Key
from totalanvi.serving.errors import QuotaError

__all__ = ["Account", "Accounts", "account_name", "acting_for", "charge"]

_DAY = 86_400

_acting_for: ContextVar[Account | None] = ContextVar("totalanvi_account", default=None)


class Account:
    """What one key has used; may be charged from several threads.

    Parameters
    ----------
    name
        The key's.
    clock
        Returns seconds since 1970.
    """

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self.name = name
        self._clock = clock
        self._lock = threading.Lock()
        self._cells_per_day: int | None = None
        self._spent = 0.0
        self._counted_at = clock()
        self._day = int(clock() // _DAY)
        self._cells = 0

    def admit(self, key: Key) -> None:
        """Count a request.

        Parameters
        ----------
        key
            As it is now: its limits may have changed.

        Raises
        ------
        QuotaError
            When it has made as many within a minute as it may, or mapped as many cells today.
        """
        with self._lock:
            self._cells_per_day = key.cells_per_day
            if key.requests_per_minute is not None:
                self._admit_request(key.requests_per_minute)
            self._require_cells(0)

    def charge(self, n_cells: int) -> None:
        """Count cells that are about to be mapped.

        Raises
        ------
        QuotaError
            When they are more than are left for today; none of them is counted then.
        """
        with self._lock:
            self._require_cells(n_cells)
            self._cells += n_cells

    def _admit_request(self, most: int) -> None:
        # What was spent comes back evenly, so that no minute, whenever it begins, sees more than twice the limit.
        now = self._clock()
        self._spent = max(0.0, self._spent - max(0.0, now - self._counted_at) * most / 60)
        self._counted_at = now
        if self._spent + 1 > most:
            wait = max(1, math.ceil((self._spent + 1 - most) * 60 / most))
            raise QuotaError(
                f"Expected at most {most} requests a minute with the key {self.name!r}, found more; ask again in "
                f"{wait} s.",
                retry_after=wait,
            )
        self._spent += 1

    def _require_cells(self, n_cells: int) -> None:
        now = self._clock()
        if int(now // _DAY) != self._day:
            self._day, self._cells = int(now // _DAY), 0
        most = self._cells_per_day
        if most is None or (self._cells + n_cells <= most and self._cells < most):
            return
        wait = math.ceil((self._day + 1) * _DAY - now)
        raise QuotaError(
            f"Expected at most {most} cells a day with the key {self.name!r}, found {self._cells} mapped"
            + (f" and {n_cells} more asked for" if n_cells else "")
            + f"; ask for fewer, ask again in {wait} s, or ask the endpoint's operator for more.",
            retry_after=wait,
        )


class Accounts:
    """The accounts of all keys, by name: a key that is replaced under its name keeps what was used."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._accounts: dict[str, Account] = {}

    def of(self, key: Key) -> Account:
        """Return the account of a key."""
        if key.name not in self._accounts:
            self._accounts[key.name] = Account(key.name, self._clock)
        return self._accounts[key.name]


@contextmanager
def acting_for(account: Account) -> Iterator[None]:
    """Let `charge` charge this account, in this task and in what it starts."""
    token = _acting_for.set(account)
    try:
        yield
    finally:
        _acting_for.reset(token)


def charge(n_cells: int) -> None:
    """Charge whoever is acted for with cells that are about to be mapped; nobody is where no keys are needed.

    Raises
    ------
    QuotaError
        When they are more than are left.
    """
    account = _acting_for.get()
    if account is not None:
        account.charge(n_cells)


def account_name() -> str | None:
    """Return the name of the key that is acted for; None where no keys are needed."""
    account = _acting_for.get()
    return None if account is None else account.name
