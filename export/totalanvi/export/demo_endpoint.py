"""The demo's endpoint: ``totalanvi serve`` in a process of its own, on a free port.

While the demo maps, the client asks it; in the end it stays for whoever sits at the terminal, so that the page can be
looked at.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import SystemRandom
from typing import TextIO

import httpx

from totalanvi.export.errors import DemoError

__all__ = ["free_port", "running_endpoint", "show_page"]

START_SECONDS = 120
STOP_SECONDS = 30
POLL_SECONDS = 0.1
PORTS = range(20_000, 32_000)
PORT_TRIALS = 20
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
    DemoError
        When it does not get ready; the message ends with what it wrote last.
    """
    port = free_port()
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


def show_page(folder: Path, keyboard: TextIO) -> None:
    """Serve a demo's bundle, and print its page's address, until a line comes from the keyboard or Ctrl+C.

    Parameters
    ----------
    folder
        What `totalanvi.export.demo.run_demo` left.
    keyboard
        Ends the endpoint with its next line, or its own end.

    Raises
    ------
    DemoError
        When the endpoint does not get ready.
    """
    print("Start the endpoint for browsers …", flush=True)
    # What asks for the line may be stopped by Ctrl+C, which the endpoint hears as well: both are done then.
    with (
        suppress(KeyboardInterrupt),
        tempfile.TemporaryDirectory() as scratch,
        running_endpoint(folder / "bundle", Path(scratch)) as url,
    ):
        print(f"To map {folder / 'query.h5mu'} in a browser, open this page and drop the file there. Enter ends it.")
        print(f"{url}/", flush=True)
        keyboard.readline()


def free_port() -> int:
    """Return a port that nothing listens on, and that no system gives away of its own accord.

    Ports that a system chooses for connections (32768 and more on Linux) may be taken between this call and
    the server's start: the server's own supervisor takes several.

    Returns
    -------
    int
        The port.

    Raises
    ------
    DemoError
        When all that were tried are in use.

    Examples
    --------
    >>> 20_000 <= free_port() < 32_000
    True
    """
    for port in SystemRandom().sample(PORTS, PORT_TRIALS):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise DemoError(
        f"Expected a free port from {PORTS.start} to {PORTS.stop - 1}, found {PORT_TRIALS} that are in use; "
        "stop what uses them."
    )


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
    raise DemoError(
        f"Expected the endpoint to be ready within {START_SECONDS} s, found that {found}. It wrote:\n{last}"
    )
