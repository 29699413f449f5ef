"""How far the steps of a run are, read off its records, without opening what they made."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sae_traits.config import RunConfig
from sae_traits.config.tree import build
from sae_traits.errors import StoreError
from sae_traits.logging import duration
from sae_traits.runs.configuration import options_of_steps, read_configuration
from sae_traits.runs.folder import RunFolder
from sae_traits.runs.lock import LOCK, is_held, is_read_only
from sae_traits.runs.record import OF_NO_RUN, Counts, Steps

StepState = Literal["done", "open", "outdated", "incomplete", "waiting"]
_IN_WORDS: dict[StepState, str] = {
    "done": "done",
    "open": "partly",
    "outdated": "to be done again: what it read was made anew",
    "incomplete": "to be done again: files of it are missing",
    "waiting": "not done",
}
_COMMANDS = {"collect": "", "extract": "", "dataset": "annotate", "cards": "annotate"}
"""Steps that no command of a RUN is named after; those without one need a source."""


@dataclass(frozen=True, kw_only=True)
class StepStatus:
    """One step of a run."""

    step: str
    state: StepState
    seconds: float | None = None
    made: str = ""
    """In a few words; empty where nothing is counted."""

    @property
    def line(self) -> str:
        took = [] if self.seconds is None or self.state != "done" else [f"in {duration(self.seconds)}"]
        return f"{self.step:9} {', '.join([*filter(None, [_IN_WORDS[self.state], self.made]), *took])}"


@dataclass(frozen=True)
class RunStatus:
    """All steps of a run, and which comes next."""

    folder: RunFolder
    steps: tuple[StepStatus, ...]
    is_written: bool
    """Whether a command writes to the run just now."""
    note: str | None
    """What config.yaml says otherwise than the steps were made; None where nothing."""

    @classmethod
    def of(cls, folder: RunFolder, order: Mapping[str, tuple[str, ...]]) -> RunStatus:
        """Read the records of a run.

        Raises:
            StoreError: it is none.
            ConfigError: its configuration cannot be read.
        """
        folder.check_is_run()
        options = options_of_steps(build(RunConfig, read_configuration(folder.config)))
        steps, note = Steps(folder.steps, order, options=options), None
        try:
            steps.refuse_other_options(order)
        except StoreError as error:
            note = str(error)
        lock = folder.path / LOCK
        is_written = lock.is_file() and not is_read_only(folder.path) and is_held(lock)
        states = [_status_of(folder, steps, name) for name in order]
        shown = [one for one in states if one.step not in OF_NO_RUN or one.state != "waiting"]
        return cls(folder, tuple(shown), is_written, note)

    @property
    def finished(self) -> set[str]:
        """The steps that are done with what there is now."""
        return {one.step for one in self.steps if one.state in ("done", "open", "incomplete")}

    @property
    def next(self) -> str | None:
        """The first step that is to be done; None where all are."""
        return next((one.step for one in self.steps if one.state != "done"), None)

    def to_dict(self) -> dict[str, Any]:
        steps = [asdict(one) for one in self.steps]
        return {"run": str(self.folder.path), "steps": steps, "next": self.next, "is_written": self.is_written}

    def lines(self, of_shards: str | None = None) -> list[str]:
        """A line per step, and what comes next.

        Args:
            of_shards: what is to be done of the next step, where that is done in shards.
        """
        lines = [f"run       {self.folder.path}", *(one.line for one in self.steps)]
        if self.is_written:
            lines.append("now       a command writes to it")
        if self.next is None:
            lines.append("next      nothing: all steps are done")
        else:
            lines.append(f"next      {self.next}: {of_shards or self._command}")
        return lines if self.note is None else [*lines, f"options   {self.note}"]

    @property
    def _command(self) -> str:
        """What does the next step: with the options of the run, and with those that it has of now."""
        assert self.next is not None
        run, command = shlex.quote(str(self.folder.path)), _COMMANDS.get(self.next, self.next)
        own = f"`sae-traits {command} {run}`"
        if self.next in OF_NO_RUN:
            return f"{own} with the options that it was begun with, which no run keeps"
        whole = f"`sae-traits run --config {shlex.quote(str(self.folder.config))} --out {run}`"
        return f"{whole}, which does all that is left (or {own})" if command else whole


def _status_of(folder: RunFolder, steps: Steps, name: str) -> StepStatus:
    record = steps.records.get(name)
    if record is None:
        return StepStatus(step=name, state="waiting")
    counts, state = record["counts"], "done"
    if not steps.is_current(name):
        state = "outdated"
    elif not all((folder.path / file).is_file() for file in record["files"]):
        state = "incomplete"
    elif counts.get("n_open"):
        state = "open"
    made = _MADE[name](counts) if name in _MADE else ""
    return StepStatus(step=name, state=state, seconds=record["seconds"], made=made)


def _images(counts: Counts) -> str:
    labels = f"of {counts['n_species']:,} species" if counts["n_species"] else "without labels"
    return f"{counts['n_images']:,} images {labels}"


def _sae(counts: Counts) -> str:
    explained = counts.get("explained_variance")
    return "" if explained is None else f"explained variance {explained:.3f}"


def _traits(counts: Counts) -> str:
    left = f", {counts['n_open']:,} regions left to ask about" if counts["n_open"] else ""
    return f"{counts['n_traits']:,} traits of {counts['n_images']:,} images{left}"


def _captions(counts: Counts) -> str:
    left = f", {counts['n_open']:,} images left to ask about" if counts["n_open"] else ""
    return f"{counts['n_captions']:,} captions by {counts['describer']}, {counts['describer_model']}{left}"


_MADE: dict[str, Callable[[Counts], str]] = {
    "collect": _images,
    "extract": lambda counts: f"{counts['n_patches']:,} patches of width {counts['d_model']}",
    "train": _sae,
    "annotate": _traits,
    "caption": _captions,
}
