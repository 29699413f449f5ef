"""Images fetched by their addresses: several at a time, each once, with patience; failures have a reason.

`fetched.jsonl` beside the images has one line for each answer: the sha256 of an image, or why there is none. What was
fetched is not asked for again, nor what is gone; what failed for the moment is asked for by the next command.

Addresses come from tables and datasets of others, so that only servers of the public internet are asked, unless the
caller allows others: every connection is checked when it stands, also those that a redirection leads to.
"""

from __future__ import annotations

import json
import math
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import islice
from pathlib import Path
from typing import Any, TextIO, cast
from urllib.parse import urlsplit
from urllib.request import getproxies

from sae_traits import __version__
from sae_traits.errors import CollectionError, ImageError, one_line
from sae_traits.images.decode import CANNOT_BE_DECODED, examine_bytes
from sae_traits.io import retry_after, write_whole
from sae_traits.logging import track

MAX_BYTES = 64 * 2**20
"""A larger file is refused."""
TRIES = 4
FIRST_PAUSE = 0.5
"""Seconds before the second try, unless the caller says otherwise; each pause is up to twice the one before."""
MAX_PAUSE = 60.0
"""Seconds; a server that asks for more (Retry-After) is left alone until the next command."""
TIMEOUT = 30.0
"""Seconds without a byte after which a server counts as silent."""
SECONDS_PER_IMAGE = 300.0
"""All tries and pauses of an image take at most so long."""
SECONDS_IN_ALL = 24 * 3600.0
"""Fetching ends after so long; the next command goes on."""
LOG_FILE = "fetched.jsonl"
_TOO_LARGE = f"it is larger than {MAX_BYTES / 2**20:.0f} MiB"

_WINDOW = 256
"""Images that are given to the threads ahead of time; more than there are connections."""
_SOON = frozenset({408, 425, 429, *range(500, 600)})
"""Answers of HTTP after which a server is asked again at once."""
_FINAL = frozenset({400, 404, 410, 414, 451})
"""Answers of HTTP that the next command would get, too; what is forbidden today may be allowed by then."""
_NAT64 = ip_network("64:ff9b::/96")
"""IPv6 addresses with an IPv4 address in their last 32 bits."""


@dataclass(frozen=True)
class Answer:
    """What came of an address."""

    file: str
    url: str
    sha256: str | None = None
    size: int | None = None
    reason: str | None = None
    """Why there is no image."""
    final: bool = False
    """There will be none next time, either."""


class _Failed(Exception):
    """There is no image; with `pause`, it may be there after so many seconds."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


def fetch_images(
    urls: Mapping[str, str],
    folder: Path,
    *,
    connections: int = 8,
    allow_private_addresses: bool = False,
    first_pause: float = FIRST_PAUSE,
    seconds_per_image: float = SECONDS_PER_IMAGE,
    seconds_in_all: float = SECONDS_IN_ALL,
) -> dict[str, Answer]:
    """Fetch the images that are not there yet, and say for each file what came of it.

    A file appears under its name when it is whole and can be decoded.

    Args:
        urls: file, relative to the folder -> address. The files are safe names: see `cache.safe_name`.
        allow_private_addresses: whether servers of this machine and of private networks may be asked.
        first_pause, seconds_per_image, seconds_in_all: as the constants that are their defaults.

    Raises:
        CollectionError: the environment names a proxy that cannot be used.
    """
    answers = {
        answer.file: answer
        for answer in _read_log(folder)
        if urls.get(answer.file) == answer.url and _holds(folder, answer)
    }
    missing = [(file, url) for file, url in urls.items() if file not in answers]
    if not missing:
        return answers
    for parent in {(folder / file).parent for file, _ in missing}:
        parent.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + seconds_in_all
    clients = threading.local()  # one for each thread, so that a deadline cuts off its own connections alone

    def fetch(file: str, url: str) -> Answer:
        if not hasattr(clients, "client"):
            clients.client = _Client(allow_private_addresses)
            closing.callback(clients.client.close)
        seconds = min(seconds_per_image, end - time.monotonic())
        return _fetch(clients.client, folder, file, url, first_pause, seconds)

    with ExitStack() as closing, _open_log(folder) as log, ThreadPoolExecutor(connections) as pool:
        try:
            for answer in track(_as_they_come(pool, fetch, missing), "Fetching images", total=len(missing)):
                answers[answer.file] = answer
                if answer.reason is None or answer.final:
                    log.write(json.dumps(asdict(answer)) + "\n")
                    log.flush()
        finally:  # after an interrupt, only what is under way is waited for
            pool.shutdown(wait=True, cancel_futures=True)
    return answers


def _as_they_come(
    pool: ThreadPoolExecutor, fetch: Callable[[str, str], Answer], missing: Sequence[tuple[str, str]]
) -> Iterator[Answer]:
    """Yield the answers as they come; of millions of images, only a window waits for a thread."""
    left = iter(missing)
    waiting = {pool.submit(fetch, *item) for item in islice(left, _WINDOW)}
    while waiting:
        done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        waiting |= {pool.submit(fetch, *item) for item in islice(left, len(done))}
        yield from (future.result() for future in done)


def _open_log(folder: Path) -> TextIO:
    """Open the log, to add to; a line that a kill cut short is ended, so that the next one stands by itself."""
    log = (folder / LOG_FILE).open("a+", encoding="utf-8")
    if end := log.tell():
        log.seek(end - 1)
        if log.read() != "\n":
            log.write("\n")
    return log


def _read_log(folder: Path) -> Iterator[Answer]:
    """Yield the answers so far; a line that a kill cut short is passed over."""
    path = folder / LOG_FILE
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            try:
                yield Answer(**json.loads(line))
            except (json.JSONDecodeError, TypeError):
                continue


def _holds(folder: Path, answer: Answer) -> bool:
    """Whether an old answer still stands."""
    if answer.reason is not None:
        return answer.final
    path = folder / answer.file
    return path.is_file() and path.stat().st_size == answer.size


def _fetch(client: _Client, folder: Path, file: str, url: str, first_pause: float, seconds: float) -> Answer:
    """Fetch one image in several tries, with pauses that double, have jitter, and last as long as the server asks."""
    from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_before_delay, wait_random_exponential

    def is_worth_waiting(error: BaseException) -> bool:
        return isinstance(error, _Failed) and error.pause is not None and error.pause <= MAX_PAUSE

    def fetch_once() -> Answer:
        data = client.read(url, end - time.monotonic())
        try:
            facts = examine_bytes(data)
        except ImageError as error:
            # A picture that breaks off may be whole the next time: not every server says how long it is.
            pause = math.inf if str(error).startswith(CANNOT_BE_DECODED) else None
            raise _Failed(f"what was fetched cannot be used: {error}", pause) from error
        write_whole(folder / file, data)
        return Answer(file, url, sha256=facts.sha256, size=len(data))

    if seconds <= 0:
        return Answer(file, url, reason="the time for fetching is over; run the same command again to go on")
    end = time.monotonic() + seconds
    usual = wait_random_exponential(multiplier=first_pause, min=first_pause / 2)
    patience = Retrying(
        stop=stop_after_attempt(TRIES) | stop_before_delay(seconds),
        retry=retry_if_exception(is_worth_waiting),
        wait=lambda state: max(cast(Any, state.outcome).exception().pause, usual(state)),
        reraise=True,
    )
    try:
        return patience(fetch_once)
    except _Failed as failed:
        return Answer(file, url, reason=str(failed), final=failed.pause is None)


class _Client:
    """An HTTP client of one thread, whose connections are checked when they stand and can be cut off."""

    def __init__(self, allow_private_addresses: bool) -> None:
        from huggingface_hub.errors import (
            HTTPError,  # pyright: ignore[reportPrivateImportUsage]  # of httpx or httpx2, as huggingface_hub is 1 or 2
        )

        self._http: Any = import_module(HTTPError.__module__.partition(".")[0])
        agent = {"User-Agent": f"sae-traits/{__version__}"}
        try:
            self._client = self._http.Client(headers=agent, timeout=TIMEOUT, follow_redirects=True)
        except (ImportError, ValueError, self._http.InvalidURL) as error:
            raise CollectionError(
                f"the proxy of the environment (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY) cannot be used: {one_line(error)}"
            ) from error
        self._allow_private_addresses = allow_private_addresses
        # getproxies() also has what NO_PROXY names, as `no`.
        addresses = [proxy for scheme, proxy in getproxies().items() if scheme in ("http", "https", "all")]
        proxies = [urlsplit(f"//{proxy.rpartition('//')[2]}") for proxy in addresses]
        self._proxies = {(proxy.hostname, proxy.port or 80) for proxy in proxies}
        self._host: tuple[str, int] = ("", 0)
        self._streams: deque[Any] = deque(maxlen=32)

    def close(self) -> None:
        self._client.close()

    def read(self, url: str, seconds: float) -> bytes:
        """Read what an address holds, or raise _Failed."""
        from huggingface_hub import constants

        http = self._http
        if not url.lower().startswith(("http://", "https://")):
            raise _Failed("it is no address of the web (http or https)")
        if constants.HF_HUB_OFFLINE:
            raise _Failed("it could not be fetched: HF_HUB_OFFLINE is set", pause=math.inf)
        try:
            with (
                self._cut_off_after(seconds),
                self._client.stream("GET", url, extensions={"trace": self._see}) as reply,
            ):
                _check(reply)
                data = bytearray()
                for chunk in reply.iter_bytes():
                    data += chunk
                    if len(data) > MAX_BYTES:
                        raise _Failed(_TOO_LARGE)
                return bytes(data)
        except (http.InvalidURL, http.UnsupportedProtocol, http.TooManyRedirects, ValueError) as error:
            raise _Failed(f"the address cannot be used: {one_line(error)}") from error
        except http.HTTPError as error:
            raise _Failed(f"it could not be fetched: {one_line(error)}", pause=0.0) from error

    @contextmanager
    def _cut_off_after(self, seconds: float) -> Iterator[None]:
        """Shut all connections after a time: a server that sends a byte now and then is never silent."""
        is_over = threading.Event()

        def cut_off() -> None:
            is_over.set()
            for stream in list(self._streams):
                with suppress(OSError, AttributeError):  # it is closed already
                    stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(seconds, cut_off)
        timer.daemon = True
        timer.start()
        try:
            yield
        except self._http.HTTPError:
            if not is_over.is_set():
                raise
        finally:
            timer.cancel()
        if is_over.is_set():
            raise _Failed("it could not be fetched in time", pause=math.inf)

    def _see(self, event: str, info: dict[str, Any]) -> None:
        """Look at every connection that is made, before anything is sent over it."""
        if event.endswith("connect_tcp.started"):
            self._host = info["host"], info["port"]
        elif event.endswith(("connect_tcp.complete", "start_tls.complete")):
            stream = info["return_value"]
            self._streams.append(stream)
            address = stream.get_extra_info("server_addr")[0]
            if not (self._allow_private_addresses or self._host in self._proxies or _is_public(address)):
                stream.close()
                raise _Failed(
                    f"{self._host[0]} is {address}, an address of this machine or of a private network; "
                    "--allow-private-addresses fetches from there as well",
                    pause=math.inf,
                )


def _is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet; IPv4 addresses inside IPv6 ones count as themselves."""
    ip: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address):
        ip = IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else ip.ipv4_mapped or ip.sixtofour or ip
    return ip.is_global and not ip.is_multicast


def _check(response: Any) -> None:
    """Raise _Failed unless an image may follow."""
    status, headers = response.status_code, response.headers
    if status in _SOON:
        pause = retry_after(headers) or 0.0
        asked = f"; the server asks to wait {pause:.0f} s" if pause > MAX_PAUSE else ""
        raise _Failed(f"the server answered {status} {response.reason_phrase}{asked}", pause)
    if status != 200:
        raise _Failed(
            f"the server answered {status} {response.reason_phrase}", pause=None if status in _FINAL else math.inf
        )
    if headers.get("Content-Type", "").lower().startswith("text/"):
        raise _Failed(f"the server sent {headers['Content-Type']}, not an image")
    if headers.get("Content-Length", "").isdigit() and int(headers["Content-Length"]) > MAX_BYTES:
        raise _Failed(_TOO_LARGE)
