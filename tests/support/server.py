"""Real servers: `totalanvi serve` in a process of its own, or an application in a thread of this one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvicorn
from starlette.types import ASGIApp
from tests.support.command_line import CONSOLE_SCRIPT

from totalanvi.export.demo_endpoint import free_port
from totalanvi.serving.endpoint.catalogue import Catalogue
from totalanvi.serving.endpoint.references import References
from totalanvi.serving.endpoint.routes import Endpoint
from totalanvi.serving.mapping.local import LocalReference
from totalanvi.serving.wire.limits import Limits

START_SECONDS = 120
STOP_SECONDS = 60


@dataclass(frozen=True)
class RunningServer:
    """An endpoint that is ready."""

    url: str
    port: int
    log: Path
    process: subprocess.Popen[bytes]


@contextmanager
def running_server(
    bundle: Path | None,
    home: Path,
    *options: object,
    port: int | None = None,
    ready_by_asking: bool = False,
    **settings: object,
) -> Iterator[RunningServer]:
    """Serve a bundle until the end of the ``with`` statement.

    Parameters
    ----------
    bundle
        What to serve; None where `settings` say it.
    home
        Folder for BentoML's files and the log.
    options
        More words of the command.
    port
        Where it listens; None takes one that is free.
    ready_by_asking
        Whether to ask it if it is ready, not to read what it says: its log may be lost.
    settings
        By name, such as ``max_cells=100``.
    """
    port = free_port() if port is None else port
    log = home / "server.log"
    environment = os.environ | {"BENTOML_HOME": str(home)}
    environment |= {f"TOTALANVI_{name.upper()}": str(value) for name, value in settings.items()}
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [CONSOLE_SCRIPT, "serve", *([] if bundle is None else [bundle]), "--port", str(port), *map(str, options)],
            env=environment,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(process, log, url if ready_by_asking else None)
        yield RunningServer(url, port, log, process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def _wait_until_ready(process: subprocess.Popen[bytes], log: Path, url: str | None) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if b"\nServing " in b"\n" + log.read_bytes() if url is None else _is_ready(url):
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"The endpoint did not get ready:\n{log.read_text() if url is None else 'its log is lost'}")


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5, trust_env=False).is_success
    except httpx.TransportError:
        return False


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait until a condition holds; fail when it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def endpoint_of(
    bundle: Path, limits: Limits | None = None, opened: Callable[[Path], LocalReference] = LocalReference
) -> Endpoint:
    """Return an endpoint of one bundle, which its application loads once it starts.

    Parameters
    ----------
    bundle
        What to serve.
    limits
        Other than the usual ones.
    opened
        Opens the bundle.
    """
    return Endpoint(limits or Limits(), References(Catalogue([bundle]), opened))


@contextmanager
def app_in_thread(app: ASGIApp) -> Iterator[httpx.Client]:
    """Serve an application on a free port; yields a client of it."""
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on"))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        end = time.monotonic() + START_SECONDS
        while not server.started and time.monotonic() < end:
            time.sleep(0.01)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join(STOP_SECONDS)
