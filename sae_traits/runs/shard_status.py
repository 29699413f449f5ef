"""How far the shards of a run are, read off their marks."""

from __future__ import annotations

import shlex
import socket
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sae_traits.logging import duration
from sae_traits.runs.folder import RunFolder
from sae_traits.runs.lock import is_held, is_read_only
from sae_traits.runs.sharding import SHARDED, State, marks_of, prepared_for, read_mark

N_SHOWN = 4
"""Shards that are named as left to do."""
KILLED = "its process ended without a word, as one that is killed does (no memory, a job's end); make it again"


@dataclass(frozen=True, kw_only=True)
class ShardState:
    """One shard of a step."""

    step: str
    shard: str
    state: State | str
    """done, running, failed, or `waiting` where it has not been begun."""
    host: str | None = None
    seconds_since_last_write: float | None = None
    """Of its mark, which is touched after every file, or of what it keeps for itself."""
    error: str | None = None
    """The last one."""


@dataclass(frozen=True)
class ShardStatus:
    """All shards of a run, and what is merged of them."""

    shards: tuple[ShardState, ...]
    merged: tuple[str, ...]
    """Steps in shards that are finished as a whole."""

    @classmethod
    def of(cls, folder: RunFolder, finished: set[str], *, now: float | None = None) -> ShardStatus:
        """Read the marks; of a step that was launched with several numbers of shards, those of the newest."""
        now = time.time() if now is None else now
        states = [state for step in SHARDED for state in _states(folder, step, now)]
        with_shards = {state.step for state in states}
        return cls(tuple(states), tuple(step for step in SHARDED if step in with_shards & finished))

    def to_dict(self) -> dict[str, Any]:
        return {"shards": [asdict(state) for state in self.shards], "merged": list(self.merged)}

    def to_do(self, step: str | None, run: Path) -> str | None:
        """What is left of a step that is done in shards; None where it is not, or is merged."""
        states = [state for state in self.shards if state.step == step]
        if not states or step in self.merged:
            return None
        folder = shlex.quote(str(run))
        merge = f"`sae-traits merge {folder}`"
        open_ones = [state.shard for state in states if state.state in ("waiting", "failed")]
        if open_ones:
            shown = ", ".join(open_ones[:N_SHOWN]) + (" …" if len(open_ones) > N_SHOWN else "")
            return f"`sae-traits {step} {folder} --shard I/N` for {shown}, then {merge}"
        return merge if all(state.state == "done" for state in states) else f"wait for its shards, then {merge}"

    def lines(self) -> list[str]:
        """A line per step that has shards, and one per shard that runs or failed."""
        lines = []
        for step in dict.fromkeys(state.step for state in self.shards):
            states = [state for state in self.shards if state.step == step]
            counts = Counter(state.state for state in states)
            names = ("done", "running", "failed", "waiting")
            counted = ", ".join(f"{counts[name]} {name}" for name in names if counts[name])
            lines.append(f"{step:9} {len(states)} shards: {counted}{'; merged' if step in self.merged else ''}")
            for state in states:
                if state.state in ("running", "failed"):
                    age = duration(state.seconds_since_last_write or 0)
                    lines.append(f"          {state.shard} {state.state} on {state.host}, last write {age} ago")
                if state.error:
                    lines.append(f"              {state.error}")
        return lines


def _states(folder: RunFolder, step: str, now: float) -> list[ShardState]:
    marks, prepared = marks_of(folder, step), prepared_for(folder, step)
    if prepared is not None:  # those of other options are to be made again
        marks = [(shard, mark) for shard, mark in marks if mark["fingerprint"] == prepared]
    if not marks:
        return []
    newest = max(marks, key=lambda pair: pair[1]["started"])[0].count
    found = {shard.number: (shard, mark) for shard, mark in marks if shard.count == newest}
    states = []
    for number in range(1, newest + 1):
        if number not in found:
            states.append(ShardState(step=step, shard=f"{number}/{newest}", state="waiting"))
            continue
        shard, mark = found[number]
        path = folder.shards(step) / f"{shard.name}.json"
        age = now - max(file.stat().st_mtime for file in (path, *path.with_suffix("").glob("*")))
        killed = _was_killed(path, mark)
        states.append(
            ShardState(
                step=step,
                shard=str(shard),
                state="failed" if killed else mark["state"],
                host=mark["host"],
                seconds_since_last_write=round(max(age, 0), 1),
                error=KILLED if killed else mark.get("error"),
            )
        )
    return states


def _was_killed(path: Path, mark: Mapping[str, Any]) -> bool:
    """Whether a shard that is said to run has no process; known only of this machine, whose locks can be tried."""
    is_known = mark["host"] == socket.gethostname() and not is_read_only(path.parent)
    if mark["state"] != "running" or not is_known or is_held(path.with_suffix(".lock")):
        return False
    again = read_mark(path)  # it may have ended meanwhile
    return again is not None and again["state"] == "running"
