"""An HTTP server for files, in a thread, that can misbehave on request."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class File:
    """A file of the server.

    Attributes:
        content: its bytes. Change them to have another version, with another ETag.
        faults: what goes wrong with the next requests, one each: ``cut``, ``short`` (says less than
            it is), ``long`` (says more than it sends), ``ignore range``, ``wrong range``, or a
            status, such as ``429``.
        marks: whether the server sends an ETag.
    """

    content: bytes
    faults: deque[str] = field(default_factory=deque)
    marks: bool = True

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.content).hexdigest()[:16]}"'


class WeightsServer:
    """Serves ``files`` below ``url``; ``/moved/NAME`` redirects to ``/NAME``.

    Attributes:
        files: by name.
        asked: (method, path, Range) of each request.
        wait: seconds of Retry-After.
        repositories: names of the files of each, as Hugging Face lists them.
    """

    def __init__(self) -> None:
        self.files: dict[str, File] = {}
        self.asked: list[tuple[str, str, str | None]] = []
        self.wait = "0"
        self.repositories: dict[str, list[str]] = {}
        self.gate: threading.Event | None = None
        served = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                served.answer(self, True)

            def do_HEAD(self) -> None:
                served.answer(self, False)

            def log_message(self, *args: Any) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, to: BaseHTTPRequestHandler, with_body: bool) -> None:
        asked = to.headers.get("Range")
        self.asked.append((to.command, to.path, asked))
        if to.path.startswith("/moved/"):
            headers = {"Location": to.path.removeprefix("/moved"), "Content-Length": "0"}
            return _head(to, 302, headers)
        if to.path.startswith("/api/models/"):
            return self._list_repository(to)
        file = self.files.get(to.path.rpartition("/")[2])
        fault = file.faults.popleft() if file and file.faults and with_body else ""
        if file is None or fault.isdigit():
            status = 404 if file is None else int(fault)
            headers = {"Retry-After": self.wait} if status in (429, 503) else {}
            return _head(to, status, {"Content-Length": "0", **headers})
        if self.gate is not None and with_body:
            self.gate.wait(10)
        start = _start(to, file, asked, fault)
        size = len(file.content)
        headers = {"ETag": file.etag, "X-Repo-Commit": COMMIT} if file.marks else {}
        if start and start >= size:
            headers |= {"Content-Range": f"bytes */{size}", "Content-Length": "0"}
            return _head(to, 416, headers)
        body = file.content[start:]
        if start:
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        if fault == "wrong range":
            headers["Content-Range"] = f"bytes {start + 1}-{size - 1}/{size}"
        said = len(body) + {"short": -10, "long": 10}.get(fault, 0)
        _head(to, 206 if start else 200, headers | {"Content-Length": str(said)})
        if with_body:
            to.wfile.write(body[: len(body) // 2 if fault == "cut" else said])
        if fault:
            to.close_connection = True
        return None

    def _list_repository(self, to: BaseHTTPRequestHandler) -> None:
        name = "/".join(to.path.partition("?")[0].split("/")[3:5])
        if name not in self.repositories:
            return _head(to, 404, {"Content-Length": "0", "X-Error-Code": "RepoNotFound"})
        files = {file: self.files[file].content for file in self.repositories[name]}
        if "/tree/" in to.path:
            document: Any = [
                {"type": "file", "path": file, "size": len(content), "oid": "1" * 40}
                | {"lfs": {"oid": _sha256(content), "size": len(content), "pointerSize": 1}}
                for file, content in files.items()
            ]
        else:
            siblings = [
                {"rfilename": file, "size": len(content)}
                | {"lfs": {"sha256": _sha256(content), "size": len(content), "pointerSize": 1}}
                for file, content in files.items()
            ]
            document = {"id": name, "sha": COMMIT, "siblings": siblings}
        body = json.dumps(document).encode()
        headers = {"Content-Length": str(len(body)), "Content-Type": "application/json"}
        _head(to, 200, headers)
        to.wfile.write(body)
        return None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _head(to: BaseHTTPRequestHandler, status: int, headers: dict[str, str]) -> None:
    to.send_response(status)
    for name, value in headers.items():
        to.send_header(name, value)
    to.end_headers()


def _start(to: BaseHTTPRequestHandler, file: File, asked: str | None, fault: str) -> int:
    """The first byte that is sent."""
    if asked is None or fault == "ignore range":
        return 0
    if to.headers.get("If-Range") not in (None, file.etag):
        return 0
    return int(asked.removeprefix("bytes=").partition("-")[0])
