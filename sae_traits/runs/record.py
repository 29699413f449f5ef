"""RUN/steps.json: which steps are finished, what they counted, and the files that they wrote.

A step has a fingerprint: the hash of all that its output depends on, the fingerprints of the steps before it among
them. A step whose fingerprint is the recorded one and whose files are as they were is skipped. A record is replaced
when the new output stands, so that a failure leaves the former output and its record; a kill between the two leaves
files that differ from the record, and the step is done again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sae_traits import __version__
from sae_traits.errors import StoreError
from sae_traits.io import hash_of_file, json_text, write_text
from sae_traits.logging import say, warn
from sae_traits.runs.lock import is_read_only

Counts = dict[str, Any]


class Steps:
    """The records of the finished steps of one run.

    Args:
        path: of steps.json.
        order: each step with the steps that it reads from.
        keep: whether this process writes records; False in all but one of several processes.
        version: of the toolkit; what another one made is made again.
    """

    def __init__(
        self, path: Path, order: Mapping[str, tuple[str, ...]], *, keep: bool = True, version: str = __version__
    ) -> None:
        self.version = version
        self.path = path
        self.order = order
        self.keep = keep
        self.records: dict[str, dict[str, Any]] = {}
        self.read()

    def read(self) -> None:
        """Read what is recorded; a damaged file records nothing."""
        needed = {"fingerprint", "after", "counts", "files", "seconds"}
        try:
            records = json.loads(self.path.read_text(encoding="utf-8")) if self.path.is_file() else {}
            self.records = {name: record for name, record in records.items() if needed <= set(record)}
        except (ValueError, AttributeError, TypeError):
            warn(f"{self.path} is damaged, so every step is looked at again")

    def fingerprint(self, name: str) -> str:
        """The fingerprint of a finished step.

        Raises:
            StoreError: it is not finished, or what it read has changed since.
        """
        if not self.is_current(name):
            raise StoreError(f"{self.path.parent}: the step {name!r} is not finished; run `sae-traits run` again")
        return self.records[name]["fingerprint"]

    def is_current(self, name: str) -> bool:
        """Whether a step is finished, and the steps that it reads from have not been done anew since."""
        record = self.records.get(name)
        return record is not None and all(
            self.is_current(before) and record["after"].get(before) == self.records[before]["fingerprint"]
            for before in self.order[name]
        )

    def counts(self, name: str) -> Counts:
        """What a finished step counted; empty where it is not finished."""
        return self.records[name]["counts"] if self.is_current(name) else {}

    def do(
        self,
        name: str,
        inputs: Mapping[str, Any],
        outputs: Iterable[Path],
        work: Callable[[], Counts],
        *,
        hashed: bool = True,
        apart_from: Sequence[str] = (),
    ) -> Counts:
        """Do a step, unless it is finished with the same inputs and its files are as they were; what it counted.

        Args:
            name: one of the steps of `order`.
            inputs: all that its output depends on, apart from the steps before it.
            outputs: files and folders that it writes.
            work: makes the output; returns what it counted. A count `n_open` above zero means that something is left
                to do: the step is then done again next time.
            hashed: whether the files are hashed; False for large ones that carry checksums and are checked where they
                are read: where their time has changed the step is done again, and keeps what is sound.
            apart_from: names in the folders of `outputs` that other steps write.

        Raises:
            StoreError: a step before it is not finished.
        """
        after = {before: self.fingerprint(before) for before in self.order[name]}
        text = json.dumps({"version": self.version, "after": after, **inputs}, sort_keys=True, default=str)
        fingerprint = hashlib.sha256(text.encode()).hexdigest()
        outputs = list(outputs)
        record = self.records.get(name)
        if record and record["fingerprint"] == fingerprint and not record["counts"].get("n_open"):
            changed = self.changed_files(name, outputs)
            if not changed:
                self._say(f"{name}: complete and its inputs have not changed, skipped")
                return record["counts"]
            self._say(f"{name}: {changed[0]} is missing or not as it was written, so the step is done again")
        if self.keep and is_read_only(self.path.parent):
            raise StoreError(
                f"the step {name!r} has to be done, and {self.path.parent} is read-only: give the options of its "
                "config.yaml to see what is finished, or work on a copy, or in another folder"
            )
        self._say(f"{name}: started")
        started = time.monotonic()
        counts = work()
        seconds = round(time.monotonic() - started, 1)
        files = dict(self._files(outputs, hashed, apart_from)) if self.keep else {}
        self.records[name] = {
            "fingerprint": fingerprint, "after": after, "seconds": seconds, "counts": counts, "files": files,
        }  # fmt: skip
        if self.keep:
            write_text(self.path, json_text(self.records))
        self._say(f"{name}: done in {seconds:.0f} s")
        return counts

    def changed_files(self, name: str, outputs: Iterable[Path] = (), *, thorough: bool = False) -> list[Path]:
        """Files of a finished step that are missing or not as they were written.

        Args:
            name: a step with a record.
            outputs: files and folders that must be among those written.
            thorough: read every file; else only those whose time has changed, which a copied run's have.
        """
        folder, files = self.path.parent, self.records[name]["files"]
        missing = [path for path in outputs if not any((folder / file).is_relative_to(path) for file in files)]
        return missing + [
            folder / file for file, written in files.items() if not _is_as_written(folder / file, written, thorough)
        ]

    def _files(
        self, outputs: Iterable[Path], hashed: bool, apart_from: Sequence[str]
    ) -> Iterator[tuple[str, list[Any]]]:
        """Yield every file of some outputs with its size, time and hash."""
        for output in outputs:
            others = [output / name for name in apart_from]
            for path in sorted(output.rglob("*")) if output.is_dir() else [output]:
                if path.is_file() and not any(path.is_relative_to(other) for other in others):
                    status = path.stat()
                    name = path.relative_to(self.path.parent).as_posix()
                    yield name, [status.st_size, status.st_mtime_ns, hash_of_file(path) if hashed else None]

    def _say(self, message: str) -> None:
        if self.keep:
            say(message)


def _is_as_written(path: Path, written: list[Any], thorough: bool) -> bool:
    size, time_ns, sha256 = written
    try:
        status = path.stat()
        if status.st_size != size:
            return False
        if status.st_mtime_ns == time_ns and not (thorough and sha256):
            return True
        return sha256 is not None and hash_of_file(path) == sha256
    except (OSError, StoreError):
        return False
