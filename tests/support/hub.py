"""A small hub: a real HTTP server that speaks as much of the Hugging Face hub's protocol as its client asks for.

It keeps repositories in memory: the files of each commit. Large files come the way of LFS, to a storage of its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Hub", "Repository", "running_hub"]

LARGE = 2_000
"""Bytes from which a file goes to the storage."""


@dataclass
class Repository:
    """Its commits, the newest last, each with the content of all files by name."""

    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    @property
    def newest(self) -> str | None:
        return next(reversed(self.commits), None)

    def commit(self, files: dict[str, bytes]) -> str:
        """Put files beside those that are there."""
        before = self.commits[self.newest] if self.newest else {}
        sha = hashlib.sha1(repr((len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits[sha] = before | files
        return sha


@dataclass
class Hub:
    """What it holds, and what it was asked.

    Attributes
    ----------
    url
        Where it answers.
    token
        Who has it may write, and read what is private.
    altered
        Names of files that come out other than they went in.
    broken
        Part of the requests' methods and paths that are answered with an error, which repeats the token that came.
    asked
        Method, path, and token of each request.
    """

    url: str = ""
    token: str = "hf_secretsecretsecret"
    repositories: dict[str, Repository] = field(default_factory=dict)
    storage: dict[str, bytes] = field(default_factory=dict)
    altered: set[str] = field(default_factory=set)
    broken: str | None = None
    asked: list[tuple[str, str, str]] = field(default_factory=list)


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Run a hub on a free port of this machine."""
    hub = Hub()

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self._body()
        if self._refused(writes=True):
            return
        if self.path == "/api/repos/create":
            self._create(json.loads(body))
        elif self.path == "/api/validate-yaml":
            licensed = "license: cc-by-4.0" in json.loads(body)["content"]
            errors = [] if licensed else [{"message": "expected a licence"}]
            self._json({"errors": errors, "warnings": []}, 200 if licensed else 400)
        elif found := re.fullmatch(r"/api/models/(.+)/preupload/main", self.path):
            self._preupload(found[1], json.loads(body))
        elif found := re.fullmatch(r"/(.+)\.git/info/lfs/objects/batch", self.path):
            self._batch(json.loads(body))
        elif found := re.fullmatch(r"/api/models/(.+)/commit/main", self.path):
            self._commit(found[1], [json.loads(line) for line in body.splitlines()])
        else:
            self._error(404, "EntryNotFound", self.path)

    def do_PUT(self) -> None:
        content = self._body()
        # As a storage elsewhere: its address says who may write, and no token has business there.
        self.hub.asked.append(("PUT", self.path, self._token()))
        oid = self.path.rpartition("/")[2]
        assert hashlib.sha256(content).hexdigest() == oid
        self.hub.storage[oid] = content
        self._answer(200, b"")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if self._refused(writes=False):
            return
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/?]+))?", self.path.partition("?")[0]):
            repository = self._readable(found[1])
            if repository is None:
                return
            revision = repository.newest if found[2] in (None, "main") else found[2]
            if found[2] not in (None, "main") and found[2] not in repository.commits:
                self._error(404, "RevisionNotFound", found[2])
                return
            self._json({"id": found[1], "sha": revision, "siblings": [], "private": repository.private, "tags": []})
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([0-9a-f]{40})/(.+)", self.path):
            self._file(*found.groups())
        else:
            self._error(404, "EntryNotFound", self.path)

    def _create(self, wanted: dict[str, Any]) -> None:
        name = "/".join(part for part in (wanted.get("organization"), wanted["name"]) if part)
        if name in self.hub.repositories:
            self._json({"url": f"{self.hub.url}/{name}"}, 409)
            return
        private = wanted.get("private") is True or wanted.get("visibility") == "private"
        self.hub.repositories[name] = Repository(private)
        self._json({"url": f"{self.hub.url}/{name}"})

    def _preupload(self, name: str, wanted: dict[str, Any]) -> None:
        if self._readable(name) is not None:
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["size"] >= LARGE else "regular",
                    "shouldIgnore": False,
                }
                for file in wanted["files"]
            ]
            self._json({"files": modes})

    def _batch(self, wanted: dict[str, Any]) -> None:
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.hub.url}/storage/{one['oid']}"}}}
            for one in wanted["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        repository = self._readable(name)
        if repository is None:
            return
        files = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.storage[value["oid"]]
        sha = repository.commit(files)
        self._json({"commitUrl": f"{self.hub.url}/{name}/commit/{sha}", "commitOid": sha})

    def _file(self, name: str, sha: str, file: str) -> None:
        repository = self._readable(name)
        if repository is None:
            return
        content = repository.commits[sha].get(file)
        if content is None:
            self._error(404, "EntryNotFound", file)
            return
        if file in self.hub.altered:
            content = content[:-1] + bytes([content[-1] ^ 1])
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        self._answer(200, content, {"ETag": etag, "X-Repo-Commit": sha})

    def _readable(self, name: str) -> Repository | None:
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and self._token() != self.hub.token):
            self._error(401, "RepoNotFound", "Repository not found")
            return None
        return repository

    def _refused(self, writes: bool) -> bool:
        self.hub.asked.append((self.command, self.path, self._token()))
        if self.hub.broken and self.hub.broken in f"{self.command} {self.path}":
            self._error(500, "Broken", f"this broke: {self.headers.get('Authorization')}")
            return True
        if writes and self._token() != self.hub.token:
            self._error(401, "", "Invalid credentials")
            return True
        return False

    def _token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def _json(self, value: dict[str, Any], status: int = 200) -> None:
        self._answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _error(self, status: int, code: str, message: str) -> None:
        headers = {"Content-Type": "application/json", "X-Error-Code": code, "X-Error-Message": message}
        self._answer(status, json.dumps({"error": message}).encode(), headers)

    def _answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Keep quiet."""
