"""A server on a real socket that answers as a test says."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["OK", "Answer", "Script", "fault", "scripted"]

Answer = tuple[int, bytes, dict[str, str]] | None
"""Status, body and headers; None closes the connection without an answer."""


class Script:
    """Answers in order, the last one again and again."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.asked: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        script = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                script.asked.append((self.command, self.path))
                script.headers.append({name.lower(): value for name, value in self.headers.items()})
                self.rfile.read(int(self.headers.get("content-length", 0)))
                answer = script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
                if answer is None:
                    self.close_connection = True
                    return
                status, body, headers = answer
                self.send_response(status)
                for name, value in (headers | {"content-length": str(len(body))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_: Any) -> None:
                """Keep the test's output clean."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@contextmanager
def scripted() -> Iterator[Script]:
    """Run such a server until the end of the ``with`` statement."""
    script = Script()
    try:
        yield script
    finally:
        script.server.shutdown()
        script.server.server_close()


def fault(kind: str, status: int, message: str = "what and why", **headers: str) -> Answer:
    return status, json.dumps({"error": {"type": kind, "message": message}}).encode(), headers


OK: Answer = (200, b"whole", {})
