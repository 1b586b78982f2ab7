"""A server that speaks as Hugging Face does where a file is fetched: HEAD and GET of `resolve`, ranges."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """`with Hub(files) as hub`, files by their path `owner/name/path`; `HF_ENDPOINT` is `hub.url`.

    status   what every request for a path is answered with, instead of the file
    etags    what is said of a path's hash, instead of the truth
    break_at bytes after which the next GET breaks off, once
    down     every GET breaks off before the first byte
    cdn      large files lie on another host, which the hub sends clients to
    asked    (method, path, range header) of every request
    logins   (host, authorization) of every request
    """

    files: dict[str, bytes]
    status: dict[str, tuple[int, str]] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    break_at: int | None = None
    down: bool = False
    cdn: bool = False
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    logins: list[tuple[str, str | None]] = field(default_factory=list)

    def __enter__(self) -> Hub:
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def ranges(self) -> list[str | None]:
        """The range header of every GET."""
        return [part for method, _, part in self.asked if method == "GET"]


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_words: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        other = self.path.startswith("/cdn/")
        self.hub.logins.append(("cdn" if other else "hub", self.headers.get("Authorization")))
        if other:
            self._file(self.path.removeprefix("/cdn/"), body, {})
            return
        owner, name, _, _revision, path = self.path.strip("/").split("/", 4)
        key, part = f"{owner}/{name}/{path}", self.headers.get("Range")
        self.hub.asked.append((self.command, key, part))
        if key in self.hub.status or key not in self.hub.files:
            code, word = self.hub.status.get(key, (404, "EntryNotFound"))
            self._head(code, {"X-Error-Code": word, "X-Error-Message": word, "Content-Length": "0"})
            return
        data = self.hub.files[key]
        etag = f'"{self.hub.etags.get(key, hashlib.sha256(data).hexdigest())}"'
        if self.hub.cdn:
            linked = {"X-Linked-ETag": etag, "X-Linked-Size": str(len(data)), "X-Repo-Commit": COMMIT}
            place = f"http://localhost:{self.server.server_address[1]}/cdn/{key}"
            self._head(302, {**linked, "Location": place, "Content-Length": "0"})
            return
        self._file(key, body, {"ETag": etag, "X-Repo-Commit": COMMIT})

    def _file(self, key: str, body: bool, said: dict[str, str]) -> None:
        data, part = self.hub.files[key], self.headers.get("Range")
        start = int(part.removeprefix("bytes=").rstrip("-")) if part else 0
        if start:
            said["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        said["Content-Length"] = str(len(data) - start)
        self._head(206 if start else 200, said)
        if body:
            self._send(data[start:])

    def _head(self, code: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, data: bytes) -> None:
        stop, self.hub.break_at = 0 if self.hub.down else self.hub.break_at, None
        self.wfile.write(data[:stop])
        if stop is not None:
            self.close_connection = True
