"""`totalanvi serve` in processes of its own, and what they cost."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from totalanvi.export.demo_endpoint import free_port

TOTALANVI = Path(sys.executable).with_name("totalanvi")
START_SECONDS, STOP_SECONDS, POLL_SECONDS = 120, 60, 0.02


@dataclass(frozen=True)
class Served:
    """A bundle at an endpoint that has got ready."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path
    start_seconds: float
    """From the start of the command to the first answer that it is ready."""
    start_processor_seconds: float
    """Of all of its processes until then."""

    def processes(self) -> list[psutil.Process]:
        """Return the supervisor, and whatever it has started."""
        supervisor = psutil.Process(self.process.pid)
        return [supervisor, *supervisor.children(recursive=True)]


@contextmanager
def served(bundle: Path, **settings: object) -> Iterator[Served]:
    """Serve a bundle until the end of the ``with`` statement.

    Parameters
    ----------
    bundle
        What to serve.
    settings
        Limits by name, such as ``max_cells=100``.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as home:
        log = Path(home) / "server.log"
        environment = os.environ | {"BENTOML_HOME": home}
        environment |= {f"TOTALANVI_{name.upper()}": str(value) for name, value in settings.items()}
        with log.open("wb") as stream:
            started = time.perf_counter()
            process = subprocess.Popen(
                [TOTALANVI, "serve", bundle, "--port", str(port)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_until_ready(url, process, log)
            seconds = time.perf_counter() - started
            yield Served(url, process, log, seconds, processor_seconds(process.pid))
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Ask until an endpoint says that it is ready."""
    end = time.monotonic() + START_SECONDS
    with httpx.Client(trust_env=False, timeout=5) as asking:
        while time.monotonic() < end and process.poll() is None:
            try:
                if asking.get(f"{url}/readyz").is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(POLL_SECONDS)
    raise RuntimeError(f"The endpoint did not get ready:\n{log.read_text(errors='replace')}")


def processor_seconds(pid: int) -> float:
    """Return what a process and its descendants have used so far."""
    root = psutil.Process(pid)
    times = [process.cpu_times() for process in (root, *root.children(recursive=True))]
    return sum(each.user + each.system for each in times)
