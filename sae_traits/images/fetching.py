"""Images fetched by their addresses: several at a time, each once, with patience; failures have a reason.

`fetched.jsonl` beside the images has one line for each answer: the sha256 of an image, or why there is none. What was
fetched is not asked for again, nor what is gone; what failed for the moment is asked for by the next command.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO, cast

from sae_traits import __version__
from sae_traits.errors import ImageError, one_line
from sae_traits.images.decode import examine_bytes
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
LOG_FILE = "fetched.jsonl"
_TOO_LARGE = f"it is larger than {MAX_BYTES / 2**20:.0f} MiB"

_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers of HTTP that may be another one next time."""


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
    urls: Mapping[str, str], folder: Path, *, connections: int = 8, first_pause: float = FIRST_PAUSE
) -> dict[str, Answer]:
    """Fetch the images that are not there yet, and say for each file what came of it.

    A file appears under its name when it is whole and can be decoded.

    Args:
        urls: file, relative to the folder -> address. The files are safe names: see `cache.safe_name`.
        folder: where to write.
        connections: how many are fetched at the same time.
        first_pause: seconds before the second try.
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
    with _open_log(folder) as log, ThreadPoolExecutor(connections) as pool:
        waiting = [pool.submit(_fetch, folder, file, url, first_pause) for file, url in missing]
        try:
            for done in track(as_completed(waiting), "Fetching images", total=len(waiting)):
                answer = done.result()
                answers[answer.file] = answer
                if answer.reason is None or answer.final:
                    log.write(json.dumps(asdict(answer)) + "\n")
                    log.flush()
        finally:  # after an interrupt, only what is under way is waited for
            pool.shutdown(wait=True, cancel_futures=True)
    return answers


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
    try:
        return (folder / answer.file).stat().st_size == answer.size
    except OSError:
        return False


def _fetch(folder: Path, file: str, url: str, first_pause: float) -> Answer:
    """Fetch one image in several tries, with pauses that double, have jitter, and last as long as the server asks."""
    from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

    def is_worth_waiting(error: BaseException) -> bool:
        return isinstance(error, _Failed) and error.pause is not None and error.pause <= MAX_PAUSE

    usual = wait_random_exponential(multiplier=first_pause, min=first_pause / 2)
    patience = Retrying(
        stop=stop_after_attempt(TRIES),
        retry=retry_if_exception(is_worth_waiting),
        wait=lambda state: max(cast(Any, state.outcome).exception().pause, usual(state)),
        reraise=True,
    )
    try:
        return patience(_fetch_once, folder, file, url)
    except _Failed as failed:
        return Answer(file, url, reason=str(failed), final=failed.pause is None)


def _fetch_once(folder: Path, file: str, url: str) -> Answer:
    from huggingface_hub import get_session

    client = get_session()
    # httpx or httpx2, as huggingface_hub is 1 or 2.
    http: Any = import_module(type(client).__module__.partition(".")[0])
    if not url.lower().startswith(("http://", "https://")):
        raise _Failed("it is no address of the web (http or https)")
    agent = {"User-Agent": f"sae-traits/{__version__}"}
    data = bytearray()
    try:
        with client.stream("GET", url, headers=agent, timeout=TIMEOUT, follow_redirects=True) as response:
            _check(response)
            for chunk in response.iter_bytes():
                data += chunk
                if len(data) > MAX_BYTES:
                    raise _Failed(_TOO_LARGE)
        content = bytes(data)
        facts = examine_bytes(content)
    except (http.InvalidURL, http.UnsupportedProtocol, http.TooManyRedirects, ValueError) as error:
        raise _Failed(f"the address cannot be used: {one_line(error)}") from error
    except http.HTTPError as error:
        raise _Failed(f"it could not be fetched: {one_line(error)}", pause=0.0) from error
    except ConnectionError as error:  # of huggingface_hub's client, when HF_HUB_OFFLINE is set
        raise _Failed(f"it could not be fetched: {one_line(error)}", pause=math.inf) from error
    except ImageError as error:
        raise _Failed(f"what was fetched cannot be used: {error}") from error
    write_whole(folder / file, content)
    return Answer(file, url, sha256=facts.sha256, size=len(content))


def _check(response: Any) -> None:
    """Raise _Failed unless an image may follow."""
    status, headers = response.status_code, response.headers
    if status in _LATER:
        pause = retry_after(headers) or 0.0
        asked = f"; the server asks to wait {pause:.0f} s" if pause > MAX_PAUSE else ""
        raise _Failed(f"the server answered {status} {response.reason_phrase}{asked}", pause)
    if status != 200:
        raise _Failed(f"the server answered {status} {response.reason_phrase}")
    if headers.get("Content-Type", "").lower().startswith("text/"):
        raise _Failed(f"the server sent {headers['Content-Type']}, not an image")
    if headers.get("Content-Length", "").isdigit() and int(headers["Content-Length"]) > MAX_BYTES:
        raise _Failed(_TOO_LARGE)
