"""The test server as a process, for tests and benchmarks."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class RunningServer:
    """A test server that answers at `base_url`."""

    url: str

    @property
    def base_url(self) -> str:
        """For --base-url."""
        return f"{self.url}/v1"

    def n_requests(self) -> int:
        """Requests so far, without probes; cheap."""
        return self._get("count")

    def requests(self) -> dict[str, list[str]]:
        """What each request got, by the client's id of the call."""
        return self._get("requests")

    def statistics(self) -> dict[str, Any]:
        """What came so far; see `DescriberServer.statistics`."""
        return self._get("statistics")

    def _get(self, path: str) -> Any:
        with NO_PROXY.open(f"{self.url}/{path}", timeout=30) as reply:
            return json.load(reply)

    def change(self, **settings: Any) -> None:
        """Change fields of Settings from the next request on."""
        body = json.dumps(settings).encode()
        NO_PROXY.open(urllib.request.Request(f"{self.url}/settings", body, method="POST"), timeout=10).close()


@contextmanager
def describer_server(**settings: Any) -> Iterator[RunningServer]:
    """A server in a process of its own until the block ends."""
    script = Path(__file__).with_name("serving.py")
    command = [sys.executable, str(script), "--settings", json.dumps(settings)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield RunningServer(json.loads(process.stdout.readline())["url"])
    finally:
        process.kill()
        process.communicate()
