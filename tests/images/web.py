"""A web server on this machine that hands out photographs, and errs where a test wants it to."""

from __future__ import annotations

import io
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from PIL import Image


def photograph(colour: int = 0, size: tuple[int, int] = (12, 8)) -> bytes:
    """The bytes of a small JPEG, others for every colour."""
    file = io.BytesIO()
    Image.new("RGB", size, (20 * colour % 240, 90 + 20 * (colour // 12), 30)).save(file, "JPEG")
    return file.getvalue()


class Web(ThreadingHTTPServer):
    """Answers a path by `pages`: bytes, or a function that answers the n-th request (from 0) through the handler."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pages: dict[str, bytes | Callable[[Any, int], None]] = {}
        self.requests: Counter[str] = Counter()
        self.under_way = 0
        self.most_under_way = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients hang up on what is too large."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        web = cast(Web, self.server)
        with web.lock:
            number = web.requests[self.path]
            web.requests[self.path] += 1
            web.under_way += 1
            web.most_under_way = max(web.most_under_way, web.under_way)
        try:
            page = web.pages.get(self.path)
            if page is None:
                self.reply(404, b"gone")
            elif isinstance(page, bytes):
                self.reply(200, page, {"Content-Type": "image/jpeg"})
            else:
                page(self, number)
        finally:
            with web.lock:
                web.under_way -= 1

    def reply(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def running_web() -> Iterator[Web]:
    """A server that answers from a thread until the block ends."""
    server = Web()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
