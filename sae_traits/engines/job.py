"""A step in shards, as an engine gets it: the commands of its three phases."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sae_traits.errors import ConfigError, StoreError

PROGRAM = (sys.executable, "-m", "sae_traits.cli")
"""`sae-traits` of this installation."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """The shards of one step of one run."""

    step: str
    run: Path
    n_shards: int
    call: Callable[[Sequence[str]], int]
    """Does a command in the process that calls it, and gives its exit code."""
    gpus_per_shard: int = 0
    options: tuple[str, ...] = ()
    """Of the step; they are kept in the run by its preparation."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Of the engine."""

    def prepare(self) -> list[str]:
        """The command that makes what all shards share."""
        return [self.step, self._anywhere, "--prepare", *self.options]

    def shard(self, number: int | str) -> list[str]:
        """The command of a shard, 1 to n_shards; or with a variable of a shell in its place."""
        return [self.step, self._anywhere, "--shard", f"{number}/{self.n_shards}"]

    def merge(self) -> list[str]:
        """The command that checks and joins all shards."""
        return ["merge", self._anywhere]

    @property
    def _anywhere(self) -> str:
        """The run, for processes that are started in another folder: workers of Ray, jobs that are submitted later."""
        return str(self.run.absolute())

    @property
    def folder(self) -> Path:
        """Where scripts and logs of the engine lie."""
        return self.run / "shards" / self.step

    def check_settings(self, *known: str) -> None:
        """Raise a ConfigError for the first setting that the engine does not have."""
        for name in self.settings:
            if name not in known:
                raise ConfigError(
                    f"the engine has no setting {name!r}; --engine-option takes {', '.join(known) or 'none'}"
                )

    def number(self, name: str, default: int, *, at_least: int) -> int:
        """A setting that is a whole number; a ConfigError where it is none, or too small."""
        given = self.settings.get(name, str(default))
        if not given.isdecimal() or int(given) < at_least:
            raise ConfigError(f"--engine-option {name} is a whole number of {at_least} or more, not {given!r}")
        return int(given)

    def check_done(self, failed: Sequence[int]) -> None:
        """Raise a StoreError where shards failed."""
        if failed:
            some = ", ".join(f"{number}/{self.n_shards}" for number in failed[:10])
            raise StoreError(
                f"{len(failed)} of {self.n_shards} shards failed: {some}; `sae-traits status {self.run}` says why, and "
                "the same command makes these again"
            )


def shell_line(words: Sequence[str], *, variable: str = "") -> str:
    """A command as a shell takes it, in which a variable of the shell is not quoted away."""
    return " ".join(f'"{word}"' if variable and variable in word else shlex.quote(word) for word in words)
