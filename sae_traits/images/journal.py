"""A list of records that grows while a stream is read, and says how far it was read, so that a kill loses little."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sae_traits.io import write_text
from sae_traits.logging import say

SECONDS_BETWEEN_CHECKPOINTS = 5.0


class Journal:
    """`NAME.jsonl` with a record per line, and `NAME.json`: how many of them count, and where the stream stood then.

    Records behind the last checkpoint are written again by the next process. What writes stands in a block `writing`.
    """

    def __init__(self, path: Path, *, seconds_between_checkpoints: float = SECONDS_BETWEEN_CHECKPOINTS) -> None:
        self._seconds_between_checkpoints = seconds_between_checkpoints
        self.records_file = path.with_name(f"{path.name}.jsonl")
        self.state_file = path.with_name(f"{path.name}.json")
        self._pending: list[str] = []
        self._last_checkpoint = time.monotonic()
        self._lock_file = path.with_name(f"{path.name}.lock")
        self._state: dict[str, Any] = {"n_bytes": 0, "is_complete": False, "stream": None}
        self._read_state()

    def _read_state(self) -> None:
        if self.state_file.is_file():
            self._state = json.loads(self.state_file.read_text(encoding="utf-8"))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep other commands from writing for as long as the block lasts, and begin it with what they wrote.

        Where another one writes, it is waited for, which a line says; a kill frees the journal.
        """
        from filelock import FileLock, Timeout

        self._lock_file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._lock_file)
        try:
            held = lock.acquire(timeout=0)
        except Timeout:
            say(f"another command writes {self.records_file}; waiting until it is done")
            held = lock.acquire()
        with held:
            self._read_state()
            yield

    @property
    def is_complete(self) -> bool:
        """Whether the stream was read to its end."""
        return self._state["is_complete"]

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the records up to the last checkpoint."""
        left = self._state["n_bytes"]
        with self.records_file.open("rb") as lines:
            while left > 0 and (line := lines.readline()):
                left -= len(line)
                yield json.loads(line)

    def resume(self) -> Any:
        """Forget what is behind the last checkpoint, and return the stream's place there, None at the start."""
        with self.records_file.open("ab") as file:
            file.truncate(self._state["n_bytes"])
        return self._state["stream"]

    def write(self, record: Mapping[str, Any]) -> None:
        """Add a record; it counts from the next checkpoint on."""
        self._pending.append(json.dumps(record, ensure_ascii=True))

    def checkpoint(self, place: Mapping[str, Any]) -> None:
        """Every few seconds, write what is pending. A value of `place` that is a function is called then."""
        now = time.monotonic()
        if now - self._last_checkpoint >= self._seconds_between_checkpoints:
            self._last_checkpoint = now
            self._save({name: value() if callable(value) else value for name, value in place.items()}, False)

    def finish(self) -> None:
        """Write what is pending; the stream is at its end."""
        self._save(None, True)

    def _save(self, place: Any, is_complete: bool) -> None:
        with self.records_file.open("ab") as file:
            file.write("".join(f"{line}\n" for line in self._pending).encode())
            file.flush()
            os.fsync(file.fileno())
            n_bytes = file.tell()
        self._pending.clear()
        self._state = {"n_bytes": n_bytes, "is_complete": is_complete, "stream": place}
        write_text(self.state_file, json.dumps(self._state))
