"""The ledger: every describer call, kept in SQLite, so that a finished one is never made again.

A call's key is the hash of everything that determines its answer. It is written as pending before it is sent, and its
attempts are counted when they have ended, so that a killed run loses at most the answers in flight, and a call that
never had one is asked however often runs were killed. What was measured on a region is kept beside the calls: it does
not depend on who describes the region. Beside each answer and each measurement lies its hash, so that none is used that
the disk has changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from sae_traits.errors import StoreError
from sae_traits.logging import warn

State = Literal["pending", "ok", "invalid", "failed"]
MAX_ATTEMPTS = 3
_KEYS_PER_QUERY = 500
"""SQLite takes at least 999 parameters."""

_CREATE = """
CREATE TABLE IF NOT EXISTS describer_calls (
    key TEXT PRIMARY KEY,
    trait_id TEXT NOT NULL,
    n_images INTEGER NOT NULL,
    describer TEXT NOT NULL,
    model TEXT NOT NULL,
    prompt TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'ok', 'invalid', 'failed')),
    raw TEXT NOT NULL DEFAULT '',
    description TEXT,
    usage TEXT NOT NULL DEFAULT '{}',
    seconds REAL NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL,
    error TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS measurements (region TEXT PRIMARY KEY, measurement TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS digests (key TEXT PRIMARY KEY, digest TEXT NOT NULL) WITHOUT ROWID;
CREATE TEMPORARY TABLE planned_traits (trait_id TEXT PRIMARY KEY, key TEXT, region TEXT) WITHOUT ROWID;
"""
_COLUMNS = "key, trait_id, n_images, describer, model, prompt, state, raw, description, usage, seconds, attempts, error"
_WITH_DIGESTS = 1
"""`user_version` of a ledger with the hash of every answer and measurement."""
_DIGEST_CALLS = f"INSERT OR REPLACE INTO digests SELECT key, digest({_COLUMNS}) FROM describer_calls"  # noqa: S608  our own
_DIGEST_MEASUREMENTS = "INSERT OR REPLACE INTO digests SELECT region, digest(region, measurement) FROM measurements"
_IS_WHOLE = f"state = 'pending' OR digest({_COLUMNS}) IS (SELECT digest FROM digests WHERE key = describer_calls.key)"  # noqa: S608


@dataclass(frozen=True, kw_only=True)
class CallIdentity:
    """Which call it is: its key, and what a reader of the ledger wants to know of it."""

    key: str
    trait_id: str
    """Of the first region that the call is about."""
    n_images: int = 1
    """Images that the call is about."""
    describer: str
    model: str
    prompt: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one attempt at a call."""

    key: str
    state: State
    """ok: a valid answer; invalid: an answer that could not be used, kept in `raw`; failed: no answer."""
    raw: str = ""
    description: dict[str, Any] | None = None
    usage: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class LedgerEntry(CallIdentity, Outcome):
    """A call, what came of its last attempt, and the usage and seconds of all attempts together."""

    attempts: int
    """How often something came of it; one that was under way when a run was stopped or killed does not count."""

    @property
    def is_open(self) -> bool:
        return _is_open(self.state, self.attempts)


def call_key(**determinants: Any) -> str:
    """Hash of what determines an answer: model, prompt, image hash, region …, independent of the keywords' order."""
    text = json.dumps(determinants, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Ledger:
    """RUN/traits/ledger.sqlite; use it in a `with` block."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open a ledger; `read_only` is for one that exists, and that no process writes to meanwhile."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        try:
            if os.access(path.parent, os.W_OK) and not read_only:
                self._connection = sqlite3.connect(path)
                self._connection.execute("PRAGMA journal_mode=WAL")
                self._connection.execute("PRAGMA synchronous=NORMAL")
            else:
                self._connection = sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)
            self._connection.text_factory = _text
            self._connection.create_function("add_usage", 2, _add_usage, deterministic=True)
            self._connection.create_function("digest", -1, _digest, deterministic=True)
            self._connection.executescript(_CREATE)
            columns = ", ".join(row[1] for row in self._connection.execute("PRAGMA table_info(describer_calls)"))
            if columns == _COLUMNS:
                self._add_missing_digests()
        except sqlite3.OperationalError as error:
            raise StoreError(
                f"cannot open the ledger {path}: {error}; see whether the disk is full, or the folder read-only"
            ) from error
        except sqlite3.DatabaseError as error:
            raise StoreError(f"cannot open the ledger {path}: {error}; move it away to start a new one") from error
        if columns != _COLUMNS:
            raise StoreError(
                f"the ledger {path} is of another version of sae-traits: its calls have {columns}, not {_COLUMNS}; "
                "move it away to start a new one"
            )

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Keep other processes from asking for this ledger at the same time: they would pay for the same answers twice.

        Reading it is free to all. The lock ends with its process, however that ends.

        Raises:
            StoreError: another process is asking.
        """
        try:
            held = FileLock(f"{self._path}.lock").acquire(timeout=0)
        except Timeout as error:
            raise StoreError(
                f"another process is asking for the ledger {self._path}; wait until it is done, or stop it, and give "
                "the same command again"
            ) from error
        with held:
            yield

    def _add_missing_digests(self) -> None:
        """Hash what a version wrote that kept no hashes."""
        if self._connection.execute("PRAGMA user_version").fetchone() == (_WITH_DIGESTS,):
            return
        with self._connection:
            self._connection.execute(f"{_DIGEST_CALLS} WHERE state != 'pending'")
            self._connection.execute(_DIGEST_MEASUREMENTS)
            self._connection.execute(f"PRAGMA user_version = {_WITH_DIGESTS}")

    def take_over(self, path: Path) -> None:
        """Add what another ledger has: calls that have no answer here, and measurements; safe to do again.

        Of a call without an answer in either, the one that was attempted more often is kept: it is the other one gone
        on with (`go_on_with`), so that its tokens and seconds are those of all attempts.

        Raises:
            StoreError: it cannot be read, or this one not written.
        """
        attempts_here = "SELECT attempts FROM main.describer_calls AS own WHERE own.key = theirs.key"
        taken = (
            "SELECT key FROM other.describer_calls AS theirs WHERE state != 'pending' "  # noqa: S608  our own
            "AND key NOT IN (SELECT key FROM main.describer_calls WHERE state = 'ok') "
            f"AND (state = 'ok' OR attempts > coalesce(({attempts_here}), 0))"
        )
        try:
            self._connection.execute("ATTACH DATABASE ? AS other", (str(path),))
        except sqlite3.DatabaseError as error:
            raise StoreError(f"cannot read the ledger {path}: {error}") from error
        try:
            with self._transaction():
                self._connection.execute(
                    f"INSERT OR REPLACE INTO main.digests SELECT * FROM other.digests WHERE key IN ({taken}) OR "  # noqa: S608
                    "key IN (SELECT region FROM other.measurements WHERE region NOT IN "
                    "(SELECT region FROM main.measurements))"
                )
                self._connection.execute("INSERT OR IGNORE INTO main.measurements SELECT * FROM other.measurements")
                self._connection.execute(
                    f"INSERT OR REPLACE INTO main.describer_calls SELECT {_COLUMNS} FROM other.describer_calls "  # noqa: S608
                    f"WHERE key IN ({taken})"
                )
        except sqlite3.DatabaseError as error:
            raise StoreError(f"cannot read the ledger {path}: {error}; delete it, and make its shard again") from error
        finally:
            self._connection.execute("DETACH DATABASE other")

    def go_on_with(self, other: Ledger) -> None:
        """Begin with the calls that another ledger has no answer to, to count on with what they took there."""
        unanswered = f"SELECT {_COLUMNS} FROM describer_calls WHERE state IN ('invalid', 'failed') AND ({_IS_WHOLE})"  # noqa: S608
        rows = {row[0]: row for row in other._read(unanswered)}
        for (key,) in self._select("key", "describer_calls", "key", tuple(rows)):
            del rows[key]
        marks = ", ".join("?" * len(_COLUMNS.split(", ")))
        with self._transaction():
            self._connection.executemany(f"INSERT INTO describer_calls VALUES ({marks})", rows.values())  # noqa: S608
            self._connection.executemany(f"{_DIGEST_CALLS} WHERE key = ?", [(key,) for key in rows])

    def count_open_planned(self) -> int:
        """How many of the calls that `plan` was given are still to be asked."""
        keys = [key for (key,) in self._read("SELECT DISTINCT key FROM planned_traits")]
        return len(self.open_calls(keys))

    def drop_damaged(self) -> None:
        """Remove every answer and measurement that is not as it was written, so that there is one anew."""
        self._warn_of_damaged(
            self._delete("describer_calls", f"NOT ({_IS_WHOLE})")
            + self._delete(
                "measurements",
                "digest(region, measurement) IS NOT (SELECT digest FROM digests WHERE key = measurements.region)",
            )
            + self._delete(
                "digests",
                "key NOT IN (SELECT key FROM describer_calls) AND key NOT IN (SELECT region FROM measurements)",
            )
        )

    def drop_unmeasured(self) -> None:
        """Remove the answers about planned regions without a measurement, for describers that make both together."""
        without = "SELECT key FROM planned_traits WHERE region NOT IN (SELECT region FROM measurements)"
        self._delete("describer_calls", f"state = 'ok' AND key IN ({without})")

    def _delete(self, table: str, condition: str) -> int:
        with self._transaction():
            return self._connection.execute(f"DELETE FROM {table} WHERE {condition}").rowcount  # noqa: S608  our own

    def _warn_of_damaged(self, n: int) -> None:
        if n:
            warn(
                f"warning: {n} entries of {self._path} are damaged and left out; `sae-traits annotate` makes them anew"
            )

    def open_calls(self, keys: Iterable[str]) -> dict[str, int]:
        """Which of the keys are to be asked, with the number of attempts so far.

        Left out are those that were answered, and those that were asked MAX_ATTEMPTS times in vain.
        """
        attempts = dict.fromkeys(keys, 0)
        for key, state, n_attempts in self._select("key, state, attempts", "describer_calls", "key", tuple(attempts)):
            if _is_open(state, n_attempts):
                attempts[key] = n_attempts
            else:
                del attempts[key]
        return attempts

    def begin(self, calls: Iterable[CallIdentity], measurements: Mapping[str, Mapping[str, Any]]) -> None:
        """Write that calls are about to be sent, and what was measured on their regions.

        Raises:
            StoreError: it cannot be written, for example because the disk is full; so does `record`.
        """
        with self._transaction():
            self._connection.executemany(
                """
                INSERT INTO describer_calls (key, trait_id, n_images, describer, model, prompt, state, attempts)
                VALUES (?, ?, ?, ?, ?, ?, 'pending', 0)
                ON CONFLICT (key) DO UPDATE SET state = 'pending'
                """,
                [(c.key, c.trait_id, c.n_images, c.describer, c.model, c.prompt) for c in calls],
            )
            self._connection.executemany(
                "INSERT OR REPLACE INTO measurements VALUES (?, ?)",
                [(region, _dump(measurement)) for region, measurement in measurements.items()],
            )
            self._connection.executemany(f"{_DIGEST_MEASUREMENTS} WHERE region = ?", [(r,) for r in measurements])

    def record(self, outcomes: Iterable[Outcome]) -> None:
        """Write what came of calls that were begun, each one attempt more, in one transaction."""
        outcomes = list(outcomes)
        with self._transaction():
            self._connection.executemany(
                """
                UPDATE describer_calls SET state = ?, raw = ?, description = ?, usage = add_usage(usage, ?),
                    seconds = seconds + ?, error = ?, attempts = attempts + 1 WHERE key = ?
                """,
                [
                    (o.state, o.raw, _dump_or_none(o.description), _dump(o.usage), o.seconds, o.error, o.key)
                    for o in outcomes
                ],
            )
            self._connection.executemany(f"{_DIGEST_CALLS} WHERE key = ?", [(o.key,) for o in outcomes])

    def entries(self, keys: Collection[str]) -> dict[str, LedgerEntry]:
        """The calls of some keys; those that were never begun are left out."""
        return {row[0]: _entry(row) for row in self._select(_COLUMNS, "describer_calls", "key", tuple(keys))}

    def measurements(self, regions: Collection[str]) -> dict[str, dict[str, Any]]:
        """What was measured on some regions; those that were never measured are left out."""
        rows = self._select("region, measurement", "measurements", "region", tuple(regions))
        return {region: json.loads(text) for region, text in rows}

    def plan(self, traits: Iterable[tuple[str, str, str]]) -> None:
        """Remember for this session what each trait is made of: its trait_id, the call's key, the region's key.

        Kept in a temporary table, not in memory: a collection may have millions of traits.
        """
        with self._transaction():
            self._connection.executemany("INSERT OR REPLACE INTO planned_traits VALUES (?, ?, ?)", traits)

    def planned(self, trait_ids: Collection[str]) -> dict[str, tuple[str, str]]:
        """The keys of the call and the region that `plan` was given for some traits."""
        rows = self._select("trait_id, key, region", "planned_traits", "trait_id", tuple(trait_ids))
        return {trait_id: (key, region) for trait_id, key, region in rows}

    def __iter__(self) -> Iterator[LedgerEntry]:
        """All calls, by key, but for damaged ones."""
        n_damaged = 0
        for *row, is_whole in self._read(f"SELECT {_COLUMNS}, {_IS_WHOLE} FROM describer_calls ORDER BY key"):  # noqa: S608
            if is_whole:
                yield _entry(tuple(row))
            else:
                n_damaged += 1
        self._warn_of_damaged(n_damaged)

    def _select(self, columns: str, table: str, by: str, keys: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        for start in range(0, len(keys), _KEYS_PER_QUERY):
            some = keys[start : start + _KEYS_PER_QUERY]
            marks = ", ".join("?" * len(some))
            yield from self._read(
                f"SELECT {columns} FROM {table} WHERE {by} IN ({marks})",  # noqa: S608  the names are our own
                some,
            )

    def _read(self, query: str, parameters: Sequence[str] = ()) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self._connection.execute(query, parameters)
        except sqlite3.DatabaseError as error:
            raise StoreError(f"cannot read the ledger {self._path}: {error}; restore it from a copy") from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            with self._connection:
                yield
        except sqlite3.OperationalError as error:
            raise StoreError(
                f"cannot write {self._path}: {error}; free some space, or close what else has it open, and give the "
                "same command again: what was answered before is kept"
            ) from error


def _is_open(state: State, n_attempts: int) -> bool:
    """Whether a call is to be asked; a pending one always: earlier versions counted attempts that a kill cut short."""
    return state == "pending" or (state != "ok" and n_attempts < MAX_ATTEMPTS)


def _dump(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _dump_or_none(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else _dump(value)


def _add_usage(before: str, now: str) -> str:
    return _dump(Counter(json.loads(before)) + Counter(json.loads(now)))


def _text(stored: bytes) -> str:
    """Text as SQLite holds it, also where a damaged one is no longer UTF-8."""
    return stored.decode(errors="replace")


def _digest(*values: object) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _entry(row: tuple[Any, ...]) -> LedgerEntry:
    values = dict(zip(_COLUMNS.split(", "), row, strict=True))
    for name in ("description", "usage"):
        values[name] = None if values[name] is None else json.loads(values[name])
    return LedgerEntry(**values)
