"""A Hugging Face Hub on this machine, for the real clients: models and datasets with history, private ones included.

It speaks the part of the Hub's HTTP interface that huggingface_hub and datasets use to publish and to load, over a real
socket. By hand, from the folder `tests`:

    python -m hub.loopback --port 0 DIR

prints the environment that makes the clients use it, address and token included. DIR keeps what is pushed.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import parse_qs, urlsplit

from hub.answers import LARGE, Hub
from hub.faults import Fault, reset
from hub.messages import Request
from hub.repositories import HubError

logger = logging.getLogger("hub.loopback")


class LoopbackHub(ThreadingHTTPServer):
    """The server; `hub` is its state: url, tokens, repositories and the requests that came."""

    daemon_threads = True

    def __init__(self, folder: Path, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.hub = Hub(folder, f"http://127.0.0.1:{self.server_port}")

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client may hang up in the middle of a file (a stream that was read far enough); all else is printed."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """HTTP: reads a request, writes the reply."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    fault: Fault | None = None
    """What is to go wrong with the request that is being answered."""

    @property
    def hub(self) -> Hub:
        """What answers."""
        return cast(LoopbackHub, self.server).hub

    def do_GET(self) -> None:
        """Every method takes the same way."""
        self.fault = self.hub.receive()
        with tempfile.SpooledTemporaryFile(max_size=LARGE) as body:
            self._read_body(cast(BinaryIO, body))
            try:
                if self.fault:
                    self.fault.before()
                reply = self.hub.answer(self._request(cast(BinaryIO, body)))
            except HubError as error:
                self._send_error(error)
                return
            except ConnectionResetError:
                self._reset()
                return
        if self.fault and self.fault.kind == "lost":
            self._reset()
        elif reply.file is None:
            self._send(200, json.dumps(reply.body).encode(), {"Content-Type": "application/json"} | reply.headers)
        else:
            self._send_file(reply.file, reply.headers)

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def _read_body(self, body: BinaryIO) -> None:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body.write(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
        else:
            body.write(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        body.seek(0)

    def _request(self, body: BinaryIO) -> Request:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.hub.accounts:
            raise HubError(401, "Invalid credentials in Authorization header")
        url = urlsplit(self.path)
        return Request(self.command, url.path, parse_qs(url.query), body, self.hub.accounts.get(token))

    def _send_file(self, path: Path, headers: dict[str, str]) -> None:
        size = path.stat().st_size
        start, stop, status = 0, size, 200
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if wanted and any(wanted.groups()):
            first, last = wanted.groups()
            start = int(first) if first else max(size - int(last), 0)
            stop = min(int(last) + 1, size) if first and last else size
            if start >= stop:
                self._send_error(HubError(416, "Range not satisfiable", headers={"Content-Range": f"bytes */{size}"}))
                return
            status, headers = 206, headers | {"Content-Range": f"bytes {start}-{stop - 1}/{size}"}
        if self.command == "GET":
            self.hub.n_bytes_sent += stop - start
        with path.open("rb") as file:
            file.seek(start)
            self._send(status, file.read(stop - start), headers | {"Accept-Ranges": "bytes"})

    def _send_error(self, error: HubError) -> None:
        headers = {"Content-Type": "application/json"} | error.headers
        self._send(error.status, json.dumps(error.body).encode(), headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        middle = len(body) // 2 if self.fault else 0
        self.wfile.write(body[:middle])
        if self.fault and self.fault.kind == "cut":
            self._reset()
            return
        if self.fault and self.fault.kind == "slow":
            time.sleep(self.fault.seconds)
        self.wfile.write(body[middle:])

    def _reset(self) -> None:
        self.close_connection = True
        reset(self.connection)

    def log_message(self, format: str, *args: object) -> None:
        """To logging, which says nothing unless asked."""
        logger.info(format, *args)


@contextmanager
def running_hub(folder: Path) -> Iterator[Hub]:
    """A Hub that answers from a thread until the block ends; `folder` keeps what is pushed."""
    server = LoopbackHub(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def client_environment(hub: Hub, home: Path) -> dict[str, str]:
    """What a process needs to talk to this Hub alone; the clients read it when they are imported."""
    return {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": hub.token,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
    }


def subprocess_environment(hub: Hub, home: Path) -> dict[str, str]:
    """The environment of a subprocess whose clients use this Hub without being told, and that say no progress."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING_FACE_"))}
    return inherited | client_environment(hub, home) | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="A Hugging Face Hub on this machine.")
    parser.add_argument("folder", type=Path, metavar="DIR", help="keeps what is pushed, and the clients' cache")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    server = LoopbackHub(arguments.folder, arguments.port)
    for name, value in client_environment(server.hub, arguments.folder.resolve() / "home").items():
        print(f"export {name}={value}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
