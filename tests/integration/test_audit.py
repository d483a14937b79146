"""`make audit`, with a database of vulnerabilities of our own: pip-audit asks the one that its variables name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from totalanvi.export.demo_endpoint import free_port

SCRIPT = Path(__file__).parents[2] / ".ci/audit.py"
PINNED = "fine==1.0\nweak==2.0\n"


class Database(ThreadingHTTPServer):
    """Answers as OSV does.

    Attributes
    ----------
    faults
        By name and version of a package: the id of its vulnerability, and the version that mends it, if there is one.
    """

    faults: dict[tuple[str, str], tuple[str, str | None]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1/query"

    def answer_to(self, asked: dict[str, Any]) -> dict[str, Any]:
        package = asked["package"]
        fault = self.faults.get((package["name"], asked["version"]))
        if fault is None:
            return {}
        events = [{"introduced": "0"}] + ([{"fixed": fault[1]}] if fault[1] else [])
        affected = [{"package": package, "ranges": [{"type": "ECOSYSTEM", "events": events}]}]
        return {"vulns": [{"id": fault[0], "summary": "It breaks.", "affected": affected}]}


class Handler(BaseHTTPRequestHandler):
    server: Database

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = json.dumps(self.server.answer_to(asked)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *arguments: object) -> None:
        """Keep quiet."""


@pytest.fixture
def database() -> Iterator[Database]:
    """A database that knows of no faults."""
    server = Database(("127.0.0.1", 0), Handler)
    server.faults = {}
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(10)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The script, in a checkout that pins two packages."""
    (tmp_path / ".ci").mkdir()
    (tmp_path / "constraints.txt").write_text(PINNED)
    return Path(shutil.copy(SCRIPT, tmp_path / ".ci"))


def audit(script: Path, url: str) -> tuple[int, list[str]]:
    """Run it; returns the exit code and what it said, line by line."""
    environment = os.environ | {
        "PIP_AUDIT_VULNERABILITY_SERVICE": "osv",
        "PIP_AUDIT_OSV_URL": url,
        "NO_PROXY": "127.0.0.1",
    }
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def test_a_known_vulnerability_fails_and_is_named_with_its_cure(script: Path, database: Database) -> None:
    database.faults = {("weak", "2.0"): ("PYSEC-1", "2.1")}
    assert audit(script, database.url) == (
        1,
        ["weak 2.0: PYSEC-1; upgrade to 2.1.", "Audit: 1 known vulnerabilities; 2 of 2 packages could be looked up."],
    )


def test_one_without_a_cure_fails_too(script: Path, database: Database) -> None:
    database.faults = {("weak", "2.0"): ("PYSEC-2", None)}
    code, said = audit(script, database.url)
    assert code == 1
    assert said[0] == "weak 2.0: PYSEC-2; there is no fix yet."


def test_nothing_known_passes(script: Path, database: Database) -> None:
    database.faults = {("weak", "1.9"): ("PYSEC-1", "2.0")}
    assert audit(script, database.url) == (
        0,
        ["Audit: 0 known vulnerabilities; 2 of 2 packages could be looked up."],
    )


def test_no_database_is_said_and_passes(script: Path) -> None:
    assert audit(script, f"http://127.0.0.1:{free_port()}/v1/query") == (
        0,
        ["Audit skipped: no database of vulnerabilities can be reached."],
    )
