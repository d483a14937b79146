"""Real servers: `totalanvi serve` in a process of its own, or an application in a thread of this one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvicorn
from starlette.types import ASGIApp
from tests.support.command_line import CONSOLE_SCRIPT

from totalanvi.export.demo_endpoint import free_port

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
    bundle: Path,
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
        What to serve.
    home
        Folder for BentoML's files and the log.
    options
        More words of the command.
    port
        Where it listens; None takes one that is free.
    ready_by_asking
        Whether to ask it if it is ready, not to read what it says: its log may be lost.
    settings
        Limits by name, such as ``max_cells=100``.
    """
    port = free_port() if port is None else port
    log = home / "server.log"
    environment = os.environ | {"BENTOML_HOME": str(home)}
    environment |= {f"TOTALANVI_{name.upper()}": str(value) for name, value in settings.items()}
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [CONSOLE_SCRIPT, "serve", bundle, "--port", str(port), *map(str, options)],
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
