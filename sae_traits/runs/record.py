"""RUN/steps.json: which steps are finished, what they counted, and the files that they wrote.

A step has a fingerprint: the hash of all that its output depends on, the fingerprints of the steps before it among
them. A step whose fingerprint is the recorded one and whose files are as they were is skipped. A record is replaced
when the new output stands, so that a failure leaves the former output and its record; a kill between the two leaves
files that differ from the record, and the step is done again. A record carries the hash of itself, so that no damaged
one is believed, and the options that the step was done with, so that a run whose configuration says others is known:
one that was interrupted while it was made anew. Runs that are told of each other share the steps that have the same
fingerprint.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from sae_traits import __version__
from sae_traits.errors import StoreError
from sae_traits.io import copy_to_write, json_text, link_or_copy, unshare, write_text
from sae_traits.logging import say, warn
from sae_traits.runs.file_states import compare_files, state_of_file
from sae_traits.runs.lock import is_read_only, noting

Counts = dict[str, Any]
Options = Mapping[str, Mapping[str, Any]]
"""Step -> the options that decide what it makes, by flag, as JSON has them."""
OF_NO_RUN = ("caption",)
"""Steps that `sae-traits run` does not do; the command of their name does."""
_NOTED = ("seen", "sha256")
"""What of a record changes though its step is not done again."""


class Steps:
    """The records of the finished steps of one run.

    Args:
        path: of steps.json.
        order: each step with the steps that it reads from.
        keep: whether this process writes records; False in all but one of several processes.
        version: of the toolkit; what another one made is made again.
        others: steps.json of other runs; a step that one of them has finished with the same inputs is taken from it.
        options: with which steps are done, for their records.
        configured: the options of config.yaml; `options` where a command changes none of them.
        begin: keeps the configuration, and is called when the first step begins that has something to do. Until then
            nothing is recorded; a step that other options make the same is recorded with them later (`keep_options`).
    """

    def __init__(
        self,
        path: Path,
        order: Mapping[str, tuple[str, ...]],
        *,
        keep: bool = True,
        version: str = __version__,
        others: Sequence[Path] = (),
        options: Options | None = None,
        configured: Options | None = None,
        begin: Callable[[], None] | None = None,
    ) -> None:
        self.version = version
        self.path = path
        self.order = order
        self.keep = keep
        self.others = others
        self.options = options or {}
        self.configured = configured or self.options
        self.begin = begin
        self.replaces = True
        """Whether a finished step may be done anew with other inputs, in the place of what it made."""
        self.seconds_of_others = 0.0
        """What other processes took for the step that is being done, as the work of a merge finds it."""
        self.has_lock = False
        """Whether this process is the run's one writer, so that it notes times without asking for the lock."""
        self.records: dict[str, dict[str, Any]] = {}
        self._seen: dict[str, dict[str, int]] = {}
        """Step -> file -> another time than the recorded one, at which it was found as it was written."""
        self._same: set[str] = set()
        """Finished steps that were skipped, though they were recorded with other options."""
        self.read()

    def read(self) -> None:
        """Read what is recorded; a damaged file or record records nothing, nor does one that is gone."""
        if not self.path.is_file() and self.path.with_name("images.parquet").is_file():
            warn(f"{self.path} is missing, so every step is done again; then give `caption` again, if you had captions")
        try:
            records = json.loads(self.path.read_text(encoding="utf-8")) if self.path.is_file() else {}
            whole = {name: record for name, record in records.items() if _is_whole(name, record)}
        except (ValueError, AttributeError, TypeError):
            warn(f"{self.path} is damaged, so every step is done again")
            return
        self.records = whole
        if damaged := [name for name in records if name not in whole]:
            warn(f"{self.path} is damaged, so the step {damaged[0]!r} is done again, and those that read from it")

    def fingerprint(self, name: str) -> str:
        """The fingerprint of a finished step.

        Raises:
            StoreError: it is not finished, or what it read has changed since.
        """
        if not self.is_current(name):
            run = self.path.parent
            raise StoreError(
                f"{run}: the step {name!r} is not finished; `sae-traits run SOURCE --out {run}`, with the options that "
                "it was begun with, goes on where it stopped"
            )
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

    def fingerprint_of(self, name: str, inputs: Mapping[str, Any]) -> str:
        """The fingerprint that a step has with some inputs, and after the steps before it as they are.

        Raises:
            StoreError: a step before it is not finished.
        """
        after = {before: self.fingerprint(before) for before in self.order[name]}
        text = json.dumps({"version": self.version, "after": after, **inputs}, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def do(
        self,
        name: str,
        inputs: Mapping[str, Any],
        outputs: Iterable[Path],
        work: Callable[[], Counts],
        *,
        kept: Iterable[Path] = (),
        checked_by_readers: str = "",
        apart_from: Sequence[str] = (),
    ) -> Counts:
        """Do a step, unless it is finished with the same inputs and its files are as they were; what it counted.

        Args:
            name: one of the steps of `order`.
            inputs: all that its output depends on, apart from the steps before it.
            outputs: files and folders that it writes; what is there in the end is recorded.
            work: makes the output; returns what it counted. A count `n_open` above zero means that something is left
                to do: the step is then done again next time.
            kept: files that it reads or writes beside its output, and that other attempts and commands write, too: one
                that has changed is named, and no reason to do the step again.
            checked_by_readers: pattern of large files whose checksums are in an index beside them, and are compared
                where they are read. They are not hashed for the record.
            apart_from: names in the folders of `outputs` that other steps write.

        Raises:
            StoreError: a step before it is not finished.
        """
        after = {before: self.fingerprint(before) for before in self.order[name]}
        fingerprint = self.fingerprint_of(name, inputs)
        outputs, kept = list(outputs), list(kept)
        record = self.records.get(name)
        if record:
            self._name_what_changed_beside(name, only_missing=record["fingerprint"] != fingerprint)
        is_finished = record and record["fingerprint"] == fingerprint and not record["counts"].get("n_open")
        if record and is_finished and self._is_skipped(name, record):
            return record["counts"]
        self._refuse_to_do(name, fingerprint)
        if self.begin is not None and self.keep and name not in OF_NO_RUN:  # whose options are the command's alone
            self.begin()
        if (counts := self._take_over(name, fingerprint, outputs, apart_from)) is not None:
            return counts
        for path in _paths(outputs, ()):
            unshare(path)  # the step may write into it
        self._say(f"{name}: started")
        started, self.seconds_of_others = time.monotonic(), 0.0
        counts = work()
        own = time.monotonic() - started
        seconds = round(own + self.seconds_of_others, 1)
        record = {"fingerprint": fingerprint, "after": after, "seconds": seconds, "counts": counts}
        if self.keep:
            record["files"] = dict(self._files(outputs, checked_by_readers, apart_from))
            record["kept"] = dict(self._files(kept, "", ()))
            self.keep_options()
            self._seen.pop(name, None)
            self._keep(name, record)
        else:
            self.records[name] = {**record, "files": {}, "kept": {}}
        self._say(f"{name}: done in {own:.0f} s")
        return counts

    def _is_skipped(self, name: str, record: Mapping[str, Any]) -> bool:
        """Whether the files of a step that was finished with the same inputs are as they were; either is said."""
        changed = self.changed_files(name)
        self.note_times()
        if changed:
            self._say(f"{name}: {changed[0]} is missing or not as it was written, so the step is done again")
            return False
        self._say(f"{name}: complete and its inputs have not changed, skipped")
        if name in self.options and record.get("options") != self.options[name]:
            self._same.add(name)
            if self.begin is None:
                self.keep_options()
        return True

    def _refuse_to_do(self, name: str, fingerprint: str) -> None:
        """Raise a StoreError where a step that has to be done may not be."""
        if not self.replaces and self.is_current(name) and self.records[name]["fingerprint"] != fingerprint:
            raise StoreError(
                f"{self.path.parent} has the step {name!r} of other options or images, which an estimate does not "
                "replace, or made by another version of the toolkit; give the options of its config.yaml, estimate in "
                "another folder, or have the step done first"
            )
        if self.keep and is_read_only(self.path.parent):
            raise StoreError(
                f"the step {name!r} has to be done, and {self.path.parent} is read-only: give the options of its "
                "config.yaml to see what is finished, or work on a copy, or in another folder"
            )

    def keep_options(self) -> None:
        """Record the options of now for the steps that they make as the former ones did."""
        for name in self._same:
            self._keep(name, self.records[name])
        self._same.clear()

    def _keep(self, name: str, record: Mapping[str, Any]) -> None:
        """Record a step, with the options that it has now; a folder that is read-only keeps its own record."""
        if name in self.options:
            record = {**record, "options": self.options[name]}
        self.records[name] = _sealed(name, record)
        if self.keep and not is_read_only(self.path.parent):
            write_text(self.path, json_text(self.records))

    def _take_over(
        self, name: str, fingerprint: str, outputs: Sequence[Path], apart_from: Sequence[str]
    ) -> Counts | None:
        """Take a step from the first other run that has finished it with the same inputs; what it counted.

        Its files are linked, and get a content of their own when the step is done anew; those that it kept beside them,
        which other commands change, are copied.
        """
        for path in self.others if self.keep else ():
            other = Steps(path, self.order, version=self.version)
            record = other.records.get(name)
            if not record or record["fingerprint"] != fingerprint or record["counts"].get("n_open"):
                continue
            if other.changed_files(name):
                continue
            for former in list(_paths(outputs, apart_from)):
                former.unlink()
            for file in record["files"]:
                link_or_copy(path.parent / file, self.path.parent / file)
            for file in record["kept"]:
                if (path.parent / file).is_file() and not (self.path.parent / file).exists():
                    (self.path.parent / file).parent.mkdir(parents=True, exist_ok=True)
                    copy_to_write(path.parent / file, self.path.parent / file)
            self.keep_options()
            self._keep(name, record)
            self._say(f"{name}: taken from {path.parent}, where it was done with the same inputs")
            return record["counts"]
        return None

    def check(self, *, doing: Iterable[str] = (), reading: Iterable[str] = (), thorough: bool = False) -> None:
        """Look at the files of finished steps, before they are read, and at the options that they were made with.

        Args:
            doing: steps that are done next, which look at their own files. Which of their options have changed is said.
            reading: steps whose files are read.
            thorough: read every file; else only those whose time has changed.

        Raises:
            StoreError: a file of `reading`, or of the steps that either reads from, is missing or not as it was
                written; or what `doing` reads from was made with other options than config.yaml says. Files of other
                steps are named, as are those that are checked when they are read; so are other options of `reading`.
        """
        doing, reading = set(doing), set(reading)
        self.refuse_other_options(self._before(doing) - doing)
        if differing := self._other_options(reading | self._before(reading)):
            self._warn(f"warning: {differing}")
        if self.replaces and (changed := self._changed_options(doing, self.options)):
            words = ", ".join(f"{flag} {before} -> {now}" for flag, before, now in changed)
            self._say(f"options changed since this run was made: {words}; the steps that depend on them are made anew")
        read = (reading | self._before(doing | reading)) - doing
        for name in self.order:
            if name in doing or not self.is_current(name):
                continue
            changed = self.changed_files(name, thorough=thorough)
            if name in read:
                self._refuse_changed(name, changed)
            if changed:
                self._warn(f"warning: {_list(changed)} missing or not as it was written; {self._what_makes_anew(name)}")
            self._name_what_changed_beside(name)
        self.note_times()

    def refuse(self, doing: Iterable[str]) -> None:
        """Refuse now what `check` would refuse before it does some steps, for a command that ends with them.

        Raises:
            StoreError: what they read from is not as it was written, or was made with other options.
        """
        doing = set(doing)
        before = self._before(doing) - doing
        self.refuse_other_options(before)
        for name in self.order:
            if name in before and self.is_current(name):
                self._refuse_changed(name, self.changed_files(name))

    def _refuse_changed(self, name: str, changed: Sequence[Path]) -> None:
        """Raise a StoreError where a file is among those that changed that no reader checks."""
        hashes = {self.path.parent / file: written[2] for file, written in self.records[name]["files"].items()}
        if hashed := [path for path in changed if hashes[path] is not None]:
            raise StoreError(f"{_list(hashed)} missing or not as it was written; {self._what_makes_anew(name)}")

    def refuse_other_options(self, names: Iterable[str]) -> None:
        """Make sure that config.yaml says the options that some steps, and those that they read from, were made with.

        Raises:
            StoreError: it does not, as where a run was interrupted while it was made anew.
        """
        if differing := self._other_options({*names, *self._before(set(names))}):
            raise StoreError(differing)

    def _other_options(self, names: set[str]) -> str | None:
        """What config.yaml says otherwise than some finished steps were made, and what to do; None where nothing."""
        if not (changed := self._changed_options(names, self.configured)):
            return None
        made = ", ".join(f"{flag} {before}" for flag, before, _ in changed)
        said = ", ".join(f"{flag} {now}" for flag, _, now in changed)
        return (
            f"{self.path.parent} was made with {made}, and its config.yaml says {said}: finish the run with the "
            "command that changed this, or go back by the same command with the former options"
        )

    def _changed_options(self, names: set[str], options: Options) -> list[tuple[str, str, str]]:
        """The flags of finished steps whose value is another than when they were made, with both values."""
        return [
            (flag, _shown(record["options"][flag]), _shown(value))
            for name, record in self.records.items()
            if name in names and self.is_current(name) and "options" in record
            for flag, value in options.get(name, {}).items()
            if flag in record["options"] and record["options"][flag] != value  # another variant has others
        ]

    def changed_files(self, name: str, *, thorough: bool = False) -> list[Path]:
        """Files of a finished step that are missing or not as they were written.

        Args:
            name: a step with a record.
            thorough: read every file; else only those whose time has changed, which a copied run's have.
        """
        return self._changed(name, self.records[name]["files"], thorough)

    def _changed(self, name: str, files: Mapping[str, list[Any]], thorough: bool = False) -> list[Path]:
        seen = self.records[name].get("seen", {}) | self._seen.get(name, {})
        changed, times = compare_files(self.path.parent, files, thorough=thorough, seen=seen)
        self._seen.setdefault(name, {}).update(times)
        return changed

    @property
    def made(self) -> dict[str, dict[str, Any]]:
        """The records, but for when their files were looked at."""
        return {
            name: {key: value for key, value in record.items() if key not in _NOTED}
            for name, record in self.records.items()
        }

    def note_times(self) -> None:
        """Record the times at which files were found as they were written, so that a copied run is read once.

        Not where another command writes to the run, or nobody may: they are then known to this command alone.
        """
        found = {name: times for name, times in self._seen.items() if times.items() - self._noted(name).items()}
        if not found or not self.keep or is_read_only(self.path.parent):
            return
        with nullcontext(True) if self.has_lock else noting(self.path.parent) as may_write:
            made = self.made
            if may_write and not self.has_lock:
                self.read()
            if not may_write or self.made != made:
                return
            for name, times in found.items():
                record = self.records[name] | {"seen": self._noted(name) | times}
                self.records[name] = _sealed(name, record)
            write_text(self.path, json_text(self.records))

    def _noted(self, name: str) -> dict[str, int]:
        return self.records.get(name, {}).get("seen", {})

    def _before(self, names: set[str]) -> set[str]:
        """All steps that some steps read from, directly or not."""
        before = {step for name in names for step in self.order[name]}
        return before | self._before(before) if before else set()

    def _what_makes_anew(self, name: str) -> str:
        command = f"{name} {self.path.parent}`" if name in OF_NO_RUN else f"run` on {self.path.parent}"
        return f"`sae-traits {command} makes it anew"

    def _name_what_changed_beside(self, name: str, *, only_missing: bool = False) -> None:
        beside = self._changed(name, self.records[name]["kept"])
        changed = [path for path in beside if not (only_missing and path.exists())]
        if changed:
            self._warn(f"warning: {_list(changed)} missing or changed since the step {name!r} was finished")

    def _files(
        self, paths: Iterable[Path], checked_by_readers: str, apart_from: Sequence[str]
    ) -> Iterator[tuple[str, list[Any]]]:
        """Yield every file of some files and folders with its size, time and hash."""
        for path in _paths(paths, apart_from):
            name = path.relative_to(self.path.parent).as_posix()
            yield name, state_of_file(path, with_hash=not fnmatch(path.name, checked_by_readers))

    def _say(self, message: str) -> None:
        if self.keep:
            say(message)

    def _warn(self, message: str) -> None:
        if self.keep:
            warn(message)


def _paths(paths: Iterable[Path], apart_from: Sequence[str]) -> Iterator[Path]:
    """Yield every file of some files and folders."""
    for given in paths:
        others = [given / name for name in apart_from]
        for path in sorted(given.rglob("*")) if given.is_dir() else [given]:
            if path.is_file() and not any(path.is_relative_to(other) for other in others):
                yield path


def _list(paths: Sequence[Path]) -> str:
    """The first of some files, and how many more there are, up to the verb."""
    return f"{paths[0]} is" if len(paths) == 1 else f"{paths[0]} (and {len(paths) - 1} more) is"


def _shown(value: Any) -> str:
    """The value of an option, as a command says it."""
    return "none" if value is None else ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _hash_of_record(name: str, record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps([name, record], sort_keys=True).encode()).hexdigest()


def _sealed(name: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as it will be read, with the hash of itself."""
    record = json.loads(json_text({key: value for key, value in record.items() if key != "sha256"}))
    return {**record, "sha256": _hash_of_record(name, record)}


def _is_whole(name: str, record: Mapping[str, Any]) -> bool:
    """Whether a record is as it was written; those of versions that wrote no hash are not."""
    rest = {key: value for key, value in record.items() if key != "sha256"}
    return record.get("sha256") == _hash_of_record(name, rest)
