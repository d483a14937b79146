"""The demo's endpoint: ``totalanvi serve`` in a process of its own, on a free port."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from totalanvi.serving.errors import EndpointError

__all__ = ["running_endpoint"]

START_SECONDS = 120
STOP_SECONDS = 30
POLL_SECONDS = 0.1
SERVE = "import sys; from totalanvi.serving.cli import main; main(sys.argv[1:])"


@contextmanager
def running_endpoint(bundle: Path, home: Path) -> Iterator[str]:
    """Serve a bundle until the end of the ``with`` statement.

    Parameters
    ----------
    bundle
        Folder of the bundle.
    home
        Folder for the endpoint's log and for what BentoML keeps.

    Yields
    ------
    str
        URL of the endpoint, once it is ready.

    Raises
    ------
    EndpointError
        When it does not get ready; the message ends with what it wrote last.
    """
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    log = home / "endpoint.log"
    command = [sys.executable, "-c", SERVE, "serve", str(bundle), "--port", str(port)]
    environment = os.environ | {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"}
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT
        )
    try:
        _wait_until_ready(process, url, log)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(f"{url}/readyz", timeout=5, trust_env=False).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(POLL_SECONDS)
    found = "it ended early" if process.poll() is not None else "it is not ready yet"
    last = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
    raise EndpointError(
        f"Expected the endpoint to be ready within {START_SECONDS} s, found that {found}. It wrote:\n{last}"
    )
