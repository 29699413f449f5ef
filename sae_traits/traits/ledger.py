"""The ledger: every describer call, kept in SQLite, so that a finished one is never made again.

A call's key is the hash of everything that determines its answer. A killed run loses at most the calls in flight.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sae_traits.errors import StoreError

State = Literal["ok", "invalid", "failed"]
MAXIMUM_ATTEMPTS = 3

_CREATE = """
CREATE TABLE IF NOT EXISTS calls (
    key TEXT PRIMARY KEY,
    trait_id TEXT NOT NULL,
    describer TEXT NOT NULL,
    model TEXT NOT NULL,
    prompt TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('ok', 'invalid', 'failed')),
    raw TEXT NOT NULL,
    description TEXT,
    measurement TEXT,
    usage TEXT NOT NULL,
    seconds REAL NOT NULL,
    attempts INTEGER NOT NULL,
    error TEXT
) WITHOUT ROWID
"""


@dataclass(frozen=True, kw_only=True)
class LedgerEntry:
    """One describer call and what came of it."""

    key: str
    trait_id: str
    describer: str
    model: str
    prompt: str
    state: State
    """ok: a valid answer; invalid: an answer that could not be used, kept in `raw`; failed: no answer."""
    raw: str
    description: dict[str, Any] | None = None
    measurement: dict[str, Any] | None = None
    usage: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    attempts: int = 1
    error: str | None = None


def call_key(**determinants: Any) -> str:
    """Hash of what determines an answer: model, prompt, image hash, region …, independent of the keywords' order."""
    text = json.dumps(determinants, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Ledger:
    """RUN/traits/ledger.sqlite; use it in a `with` block."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        try:
            self._connection = sqlite3.connect(path)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute(_CREATE)
            self._connection.commit()
        except sqlite3.DatabaseError as error:
            raise StoreError(f"cannot open the ledger {path}: {error}; move it away to start a new one") from error

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def finished(self, keys: Iterable[str]) -> set[str]:
        """Which of the keys need no further call: answered, or tried MAXIMUM_ATTEMPTS times."""
        return {
            key
            for key in keys
            if (row := self._connection.execute("SELECT state, attempts FROM calls WHERE key = ?", (key,)).fetchone())
            and (row[0] == "ok" or row[1] >= MAXIMUM_ATTEMPTS)
        }

    def record(self, entries: Iterable[LedgerEntry]) -> None:
        """Write calls in one transaction; an earlier attempt at the same key is counted and replaced.

        Raises:
            StoreError: they cannot be written, for example because the disk is full.
        """
        try:
            self._record(entries)
        except sqlite3.OperationalError as error:
            raise StoreError(
                f"cannot write {self._path}: {error}; free some space, and give the same command again: "
                "what was answered before is kept"
            ) from error

    def _record(self, entries: Iterable[LedgerEntry]) -> None:
        with self._connection:
            self._connection.executemany(
                """
                INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                ON CONFLICT (key) DO UPDATE SET
                    state = excluded.state, raw = excluded.raw, description = excluded.description,
                    measurement = excluded.measurement, usage = excluded.usage, seconds = excluded.seconds,
                    attempts = calls.attempts + excluded.attempts, error = excluded.error
                """,
                [
                    (
                        e.key, e.trait_id, e.describer, e.model, e.prompt, e.state, e.raw,
                        _dump(e.description), _dump(e.measurement), _dump(e.usage), e.seconds, e.attempts, e.error,
                    )
                    for e in entries
                ],
            )  # fmt: skip

    def get(self, key: str) -> LedgerEntry | None:
        """The call of a key."""
        row = self._connection.execute("SELECT * FROM calls WHERE key = ?", (key,)).fetchone()
        return None if row is None else _entry(row)

    def __iter__(self) -> Iterator[LedgerEntry]:
        """All calls, by key."""
        return (_entry(row) for row in self._connection.execute("SELECT * FROM calls ORDER BY key"))

    def counts(self) -> dict[State, int]:
        """How many calls ended in each state."""
        counts: dict[State, int] = {"ok": 0, "invalid": 0, "failed": 0}
        counts.update(self._connection.execute("SELECT state, count(*) FROM calls GROUP BY state").fetchall())
        return counts


def _dump(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _entry(row: tuple[Any, ...]) -> LedgerEntry:
    key, trait_id, describer, model, prompt, state, raw, description, measurement, usage, seconds, attempts, error = row
    return LedgerEntry(
        key=key,
        trait_id=trait_id,
        describer=describer,
        model=model,
        prompt=prompt,
        state=state,
        raw=raw,
        description=None if description is None else json.loads(description),
        measurement=None if measurement is None else json.loads(measurement),
        usage=json.loads(usage),
        seconds=seconds,
        attempts=attempts,
        error=error,
    )
