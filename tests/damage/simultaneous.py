"""Pairs of commands on one run at the same time.

    python -m damage.simultaneous FOLDER

with `tests` and the package on PYTHONPATH starts each pair and prints what became of it.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from damage.commands import Done
from damage.matrix import Bench, bench
from damage.tiny_run import OPTIONS, end_state

LATER = 0.3
"""Seconds between the two, in which the first takes the lock."""


@dataclass(frozen=True)
class Pair:
    """Two commands, the second of which is given a moment later."""

    first: str
    second: str

    @property
    def name(self) -> str:
        """As in PAIRS."""
        return f"{self.first} + {self.second}"

    def __str__(self) -> str:
        """For pytest."""
        return self.name


PAIRS = tuple(
    Pair(*names.split(" + "))
    for names in (
        "new + new", "new + annotate", "run again + annotate", "annotate anew + evaluate", "publish + annotate anew",
        "run again + latents", "annotate anew + run again", "train anew + publish", "annotate anew + export",
        "publish + publish",
    )
)  # fmt: skip


def words(made: Bench, name: str) -> list[object]:
    """The words of a command by its name here."""
    run = made.run
    return {
        "new": made.words("run"),
        "run again": ["run", made.collection, "--out", run, *OPTIONS, "--traits-per-image", "2"],
        "annotate": ["annotate", run],
        "annotate anew": ["annotate", run, "--traits-per-image", "1"],
        "train anew": ["train", run, "--n-patches", "60000"],
        "evaluate": ["evaluate", run],
        "publish": made.words("publish"),
        "latents": ["latents", run, "--strongest", "2"],
        "export": ["export", run, made.folder / "exported", "--to", "webdataset"],
    }[name]


@dataclass(frozen=True)
class Together:
    """What became of a pair."""

    first: Done
    second: Done
    same: bool
    """Whether the run ended as it ends when those that were done are given one after the other."""


def together(made: Bench, pair: Pair) -> Together:
    """Give both commands at the same time, and compare with those that were done, one after the other."""

    def start_from() -> None:
        made.fresh()
        made.hub.store.clear()
        if pair.first == "new":
            for path in ("steps.json", "images.parquet"):
                (made.run / path).unlink()

    def end_of(*names: str) -> dict[str, str]:
        start_from()
        for name in names:
            made.forks.do(*words(made, name))
        return end_state(made.run)

    start_from()
    started = made.forks.start(*words(made, pair.first))
    time.sleep(LATER)
    second = made.forks.start(*words(made, pair.second)).wait()
    first, found = started.wait(), end_state(made.run)
    if first.code == second.code == 0:
        same = found in (end_of(pair.first, pair.second), end_of(pair.second, pair.first))
    else:
        same = found == end_of(pair.first if first.code == 0 else pair.second)
    return Together(first, second, same)


def main() -> None:
    """Try all pairs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="*")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print(
        "| pair | exit codes | ends like one after the other | the second says |\n| --- | --- | --- | --- |", flush=True
    )
    with bench(arguments.folder) as made:
        for pair in (pair for pair in PAIRS if fnmatch(pair.name, arguments.only)):
            found = together(made, pair)
            said = (found.second.err.strip().splitlines() or [""])[-1].replace(str(arguments.folder), "…")
            print(f"| {pair.name} | {found.first.code}, {found.second.code} | {found.same} | {said} |", flush=True)


if __name__ == "__main__":
    main()
