"""Real model servers as processes: started, waited for, ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from describer_server.running import NO_PROXY

SECONDS_TO_START = 300


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def model_server(command: Sequence[str | Path], port: int, log: Path, **environment: str) -> Iterator[str]:
    """A server that was started with a command, from its first healthy reply to the end of the block; its base_url.

    Raises:
        RuntimeError: it ended, or was not healthy after SECONDS_TO_START; the message ends with what it said.
    """
    with log.open("w") as file:
        process = subprocess.Popen(
            command, env=os.environ | environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        deadline = time.monotonic() + SECONDS_TO_START
        while not _is_healthy(f"http://127.0.0.1:{port}/health"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} is not healthy:\n{log.read_text()[-3000:]}")
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # its engine is a process of its own
        process.wait()


def _is_healthy(url: str) -> bool:
    try:
        with NO_PROXY.open(url, timeout=5) as reply:
            return reply.status == 200
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
