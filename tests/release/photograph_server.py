"""A web server for photographs that errs on request."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class PhotographServer(ThreadingHTTPServer):
    """Serves the files below a folder; `faults` says how the next answers for a path differ."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = Path()
        self.faults: dict[str, list[str]] = {}
        """Path -> what goes wrong with its next requests, one after the other: busy, gone, cut, changed."""
        self.requests: Counter[str] = Counter()

    def url_of(self, file: str) -> str:
        """Address of a file."""
        return f"http://127.0.0.1:{self.server_port}/{file}"


class _Handler(BaseHTTPRequestHandler):
    server: PhotographServer

    def do_GET(self) -> None:
        path = self.path.lstrip("/")
        self.server.requests[path] += 1
        faults = self.server.faults.get(path, [])
        fault = faults.pop(0) if faults else None
        body = (self.server.folder / path).read_bytes()
        if fault == "changed":
            body = (self.server.folder / "Bus_aus/plain.jpg").read_bytes()
        status = {"gone": 410, "busy": 503}.get(fault or "", 200)
        self.send_response(status)
        if fault == "busy":
            self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fault == "cut" else body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def running_photograph_server() -> Iterator[PhotographServer]:
    """A server in a thread."""
    with PhotographServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
