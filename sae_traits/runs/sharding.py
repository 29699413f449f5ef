"""Steps in shards: each is made by a process of its own, which needs no other and takes no lock that others take.

Such a step has three phases. What all shards share is prepared once; each shard makes files of its own; `merge` checks
these and joins them. A shard is a run of consecutive feature shards, so that every batch is what it is in one process,
and what comes out is the same to the last bit. RUN/shards/STEP has a mark for each shard: what it is made of, how far
it is, and size and sha256 of its files.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sae_traits.errors import ConfigError, StoreError, one_line
from sae_traits.io import read_sealed, sealed_json, write_text
from sae_traits.logging import say
from sae_traits.runs.file_states import compare_files, state_of_file
from sae_traits.runs.folder import RunFolder
from sae_traits.runs.lock import SECONDS_FOR_A_LOCK
from sae_traits.runs.record import Counts, Steps

SHARDED = ("extract", "encode", "annotate")
"""Steps that can be done in shards, in their order."""
PREPARED = "prepared"
State = Literal["running", "done", "failed"]


@dataclass(frozen=True)
class Shard:
    """One of several shards of a step."""

    number: int
    """From 1."""
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise ConfigError(f"there is no shard {self.number} of {self.count}: --shard I/N goes from 1/N to N/N")

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `I/N`."""
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal()):
            raise ConfigError(f"--shard is I/N, for example 3/8, not {text!r}")
        return cls(int(number), int(count))

    @property
    def name(self) -> str:
        """What its files are named after."""
        return f"{self.number:05d}-of-{self.count:05d}"

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def share_of(self, n: int) -> range:
        """Its share of n things in a row; the shares of all shards differ by one at most, and do not overlap."""
        return range(n * (self.number - 1) // self.count, n * self.number // self.count)

    def rows(self, units: list[range]) -> range:
        """The images in its share of units of consecutive images."""
        own = [units[number] for number in self.share_of(len(units))]
        return range(own[0].start, own[-1].stop) if own else range(0)


Part = Shard | Literal["prepare", "merge"] | None
"""What of a sharded step a process does; None is all of it."""


class FormerShardsError(StoreError):
    """No shard of a step is of what the run is now."""


@dataclass(frozen=True, kw_only=True)
class ShardedStep:
    """A step that can be done in shards."""

    name: str
    inputs: Mapping[str, Any]
    """All that its output depends on, apart from the steps before it."""
    outputs: Iterable[Path]
    whole: Callable[[], Counts]
    """Does all of it in this process."""
    shard: Callable[[Shard], Iterator[Path]]
    """Makes one shard, and yields each of its files as soon as it is whole; goes on where it was stopped."""
    join: Callable[[Mapping[str, list[Any]]], Counts]
    """Makes the output of what the shards wrote, given the size, time and sha256 of their files by path in the run."""
    prepare: Callable[[], Iterable[Path]] | None = None
    """Writes what all shards share; None where they share nothing."""
    keeps_damaged: bool = False
    """Whether a shard mends a damaged file; else it is removed first, and made again."""
    options: Mapping[str, Any] | None = None
    """Of `Steps.do`."""


def do_sharded(steps: Steps, folder: RunFolder, part: Part, step: ShardedStep) -> None:
    """Do a step, or the part of it that this process is for.

    Raises:
        StoreError: a step before it is not finished; nothing was prepared; another process makes the same shard; or
            shards that are to be merged are missing, unfinished or damaged.
    """
    match part:
        case None:
            steps.do(step.name, step.inputs, step.outputs, step.whole, **(step.options or {}))
        case "merge":
            steps.do(step.name, step.inputs, step.outputs, lambda: _merge(steps, folder, step), **(step.options or {}))
        case "prepare":
            if step.prepare is None:
                say(f"{step.name}: its shards share nothing, so there is nothing to prepare")
                return
            _make(folder, step, PREPARED, steps.fingerprint_of(step.name, step.inputs), step.prepare)
        case Shard():
            fingerprint = steps.fingerprint_of(step.name, step.inputs)
            if step.prepare is not None:
                _check_prepared(folder, step.name, fingerprint)
            _make(folder, step, part.name, fingerprint, lambda: step.shard(part))


def _check_prepared(folder: RunFolder, step: str, fingerprint: str) -> None:
    mark = read_mark(_mark(folder, step, PREPARED))
    command = f"`sae-traits {step} {folder.path} --prepare`"
    if mark is None or mark["state"] != "done" or _changed(folder, mark):
        raise StoreError(f"what all shards of the step {step!r} share is not there yet; {command} makes it")
    if mark["fingerprint"] != fingerprint:
        raise StoreError(f"the shards of the step {step!r} were prepared for other options; {command}, with these")


def _make(
    folder: RunFolder, step: ShardedStep, name: str, fingerprint: str, make: Callable[[], Iterable[Path]]
) -> None:
    """Make some files, unless they are there, and keep a mark of how far that is."""
    from filelock import FileLock, Timeout

    path = _mark(folder, step.name, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    label = f"{step.name} {name}"
    try:
        held = FileLock(path.with_suffix(".lock")).acquire(timeout=SECONDS_FOR_A_LOCK)
    except Timeout as error:
        raise StoreError(f"another process makes {label} of {folder.path}; wait until it is done") from error
    with held:
        mark = read_mark(path)
        if mark is not None and mark["state"] == "done" and mark["fingerprint"] == fingerprint:
            changed = _changed(folder, mark)
            if not changed:
                say(f"{label}: complete, skipped")
                return
            say(f"{label}: {changed[0]} is missing or not as it was written, so it is made again")
            if not step.keeps_damaged:
                for file in changed:
                    file.unlink(missing_ok=True)
        say(f"{label}: started")
        started = time.time()
        about = {"fingerprint": fingerprint, "host": socket.gethostname(), "started": started}
        write_text(path, sealed_json({"state": "running", **about}))
        files = {}
        try:
            for file in make():
                files[file.relative_to(folder.path).as_posix()] = state_of_file(file)
                path.touch()
        except BaseException as error:
            reason = one_line(error) if isinstance(error, Exception) else "it was interrupted"
            write_text(path, sealed_json({"state": "failed", **about, "error": reason}))
            raise
        seconds = round(time.time() - started, 1)
        write_text(path, sealed_json({"state": "done", **about, "seconds": seconds, "files": files}))
        say(f"{label}: done in {seconds:.0f} s")


def _merge(steps: Steps, folder: RunFolder, step: ShardedStep) -> Counts:
    """Check all files of all shards, and join them."""
    fingerprint = steps.fingerprint_of(step.name, step.inputs)
    marks = marks_of(folder, step.name)
    counts = sorted({shard.count for shard, _ in marks}, reverse=True)
    missing: dict[int, list[str]] = {}
    for count in counts:
        done = {
            shard.number: mark
            for shard, mark in marks
            if shard.count == count and mark["state"] == "done" and mark["fingerprint"] == fingerprint
        }
        missing[count] = [f"{number}/{count}" for number in range(1, count + 1) if number not in done]
        if not missing[count]:
            files = {name: state for number in sorted(done) for name, state in done[number]["files"].items()}
            if damaged := _changed(folder, {"files": files}, thorough=True):
                raise StoreError(
                    f"{damaged[0]} is missing or not as its shard wrote it; give the command of the shard again"
                )
            prepared = read_mark(_mark(folder, step.name, PREPARED)) if step.prepare is not None else None
            steps.seconds_of_others = sum(mark.get("seconds", 0.0) for mark in (*done.values(), prepared or {}))
            return step.join(files)
    if not counts:
        raise StoreError(f"{folder.path} has no shards of the step {step.name!r}")
    count = min(counts, key=lambda count: len(missing[count]))
    are_former = all(mark["fingerprint"] != fingerprint for _, mark in marks)
    raise (FormerShardsError if are_former else StoreError)(
        f"of the shards of the step {step.name!r} {len(missing[count])} are missing, unfinished or of other options: "
        f"{', '.join(missing[count][:10])}; see `sae-traits status {folder.path}`"
    )


def _changed(folder: RunFolder, mark: Mapping[str, Any], *, thorough: bool = False) -> list[Path]:
    """Files of a mark that are not as they were written."""
    return compare_files(folder.path, mark["files"], thorough=thorough)[0]


def _mark(folder: RunFolder, step: str, name: str) -> Path:
    return folder.shards(step) / f"{name}.json"


def read_mark(path: Path) -> dict[str, Any] | None:
    """What a mark says; None where there is none, or a damaged one."""
    return read_sealed(path) if path.is_file() else None


def prepared_for(folder: RunFolder, step: str) -> str | None:
    """The fingerprint that the shards of a step were prepared for; None where they share nothing."""
    mark = read_mark(_mark(folder, step, PREPARED))
    return None if mark is None else mark["fingerprint"]


def marks_of(folder: RunFolder, step: str) -> list[tuple[Shard, dict[str, Any]]]:
    """The marks of all shards of a step, in their order."""
    found = []
    for path in sorted(folder.shards(step).glob("*-of-*.json")):
        number, _, count = path.stem.partition("-of-")
        if (mark := read_mark(path)) is not None:
            found.append((Shard(int(number), int(count)), mark))
    return found
