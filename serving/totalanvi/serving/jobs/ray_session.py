"""A Ray to work with: a cluster's, or one that is started on this machine and that nobody else can reach."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from totalanvi.machine.cores import usable_cores
from totalanvi.serving.errors import SettingsError

__all__ = ["connected_ray"]

_OBJECT_STORE_BYTES = 100 << 20
"""What travels through Ray are entries of a ledger; counts are read, and results written, by whoever maps them."""

_KNOCK_SECONDS = 10


@contextmanager
def connected_ray(cluster: str | None) -> Iterator[Any]:
    """Give the module ``ray``, connected, until the ``with`` statement ends.

    Parameters
    ----------
    cluster
        Address of a cluster; None starts Ray here: without a dashboard, without telling anyone of its use, reachable
        from this machine alone, and asking for a token that is made for it. A Ray that this process is connected to
        already is used in any case, and left as it is.

    Raises
    ------
    SettingsError
        When there is no cluster at the address.
    """
    with _environment(_alone() if cluster is None else {"RAY_USAGE_STATS_ENABLED": "0"}):
        import ray

        if ray.is_initialized():
            yield ray
            return
        with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
            try:
                with _own_end():
                    _connect(ray, cluster, folder)
                yield ray
            finally:
                ray.shutdown()


@cache
def _alone() -> dict[str, str | None]:
    """Return what Ray is told in the environment, as it is imported or started; a process keeps its first token."""
    return {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        # Ray asks for the token where this is not set, and sets it.
        "RAY_AUTH_MODE": None,
        # What it calls not to look for an address that others can reach.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }


def _connect(ray: Any, cluster: str | None, folder: str) -> None:
    if cluster is None:
        ray.init(
            address="local",
            num_cpus=usable_cores(),
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=folder,
        )
        return
    try:
        _knock(cluster)
        ray.init(address=cluster, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        raise SettingsError(
            f"Expected a Ray cluster at {cluster!r}; found that it cannot be reached ({error}). Check the address "
            f"(--cluster, RAY_ADDRESS), or leave it out to start Ray on this machine."
        ) from error


@contextmanager
def _own_end() -> Iterator[None]:
    """Keep what this process does when it is told to end: Ray would put something of its own in the place of that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


def _knock(cluster: str) -> None:
    """See if anybody is there: Ray itself tries for minutes, and then ends the process."""
    host, _, port = cluster.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _KNOCK_SECONDS).close()


@contextmanager
def _environment(values: Mapping[str, str | None]) -> Iterator[None]:
    """Set variables for a while, or take them away."""
    before = {name: os.environ.get(name) for name in values}
    _set(values)
    try:
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
