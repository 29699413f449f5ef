"""Every file of a run, deleted, cut or with one bit flipped, and what each command makes of it.

    python -m damage.matrix FOLDER [--only PATTERN] [--command NAME]

with `tests` and the package on PYTHONPATH does all cells and prints how many ended how. Each is a line of
FOLDER/cells.jsonl when it is done, and those that are there already are not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from itertools import product
from pathlib import Path
from typing import Any, Literal

from clip_folders import make_open_clip_folder
from damage.commands import Done, Forks, forks
from damage.tiny_run import OPTIONS, draw_small_collection, end_state, files_of
from hub.answers import Hub
from hub.loopback import client_environment, running_hub

MODEL, DATASET = "museum/sae", "museum/traits"
EARLIER, LATER = ("run", "annotate", "caption"), ("evaluate", "publish")
COMMANDS = (*EARLIER, *LATER)
Outcome = Literal["healed", "refused", "noticed", "silent", "traceback"]
"""The end state of an undamaged run; one line that says why not; done, and the file is named; neither; a fault."""
FAULTS: tuple[Outcome, ...] = ("silent", "traceback")


def delete(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    """Keep the first half."""
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    """Flip one bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def rot(path: Path) -> None:
    """Flip one bit and leave the time, as a disk does."""
    status = path.stat()
    flip(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


HARMS: dict[str, Callable[[Path], None]] = {"deleted": delete, "cut": cut, "flipped": flip, "rotten": rot}
PLAIN = ("deleted", "cut", "flipped")
"""What is noticed by a file's size and time; the last of HARMS by its hash alone, which `publish` compares."""


@dataclass(frozen=True)
class Cell:
    """What a command made of a damaged file."""

    file: str
    harm: str
    command: str
    outcome: Outcome
    code: int
    named: bool
    """Whether what was said names the file."""
    published: bool
    """Whether what is on the Hub is what an undisturbed command puts there, or leaves."""
    said: str


@dataclass(frozen=True)
class Bench:
    """A finished run, and what is needed to harm copies of it."""

    folder: Path
    forks: Forks
    hub: Hub

    @property
    def collection(self) -> Path:
        return self.folder / "collection"

    @property
    def finished(self) -> Path:
        """The run that stays as it is."""
        return self.folder / "finished"

    @property
    def run(self) -> Path:
        """Where copies of it are made."""
        return self.folder / "run"

    def words(self, command: str) -> list[object]:
        """The command, as it is given again and again."""
        match command:
            case "run":
                return ["run", self.collection, "--out", self.run, *OPTIONS]
            case "publish":
                return ["publish", self.run, "--model-repo", MODEL, "--dataset-repo", DATASET]
            case _:
                return [command, self.run]

    def do(self, command: str) -> Done:
        """Give a command, with a Hub that holds nothing."""
        self.hub.store.clear()
        return self.forks.do(*self.words(command))

    def fresh(self) -> Path:
        """Put a copy of the finished run into place, with the times of its files."""
        shutil.rmtree(self.run, ignore_errors=True)
        shutil.copytree(self.finished, self.run)
        return self.run

    def published(self) -> dict[str, Any]:
        """What the Hub holds, apart from how long steps took."""
        return {
            f"{kind} {name}": {
                path: file.oid for path, file in repository.find("main").files.items() if path != "README.md"
            }
            for (kind, name), repository in self.hub.store.repositories.items()
        }

    def undisturbed(self, command: str) -> tuple[dict[str, str], dict[str, Any]]:
        """The end states of the run and of the Hub after a command on the run as it is."""
        self.fresh()
        done = self.do(command)
        assert done.code == 0, done.err
        return end_state(self.run), self.published()


@contextmanager
def bench(folder: Path) -> Iterator[Bench]:
    """A finished run of everything that a run may hold."""
    with (
        running_hub(folder / "hub") as hub,
        forks(folder / "said", **client_environment(hub, folder / "home")) as ready,
    ):
        made = Bench(folder, ready, hub)
        if not made.finished.exists():
            shutil.rmtree(made.run, ignore_errors=True)
            if not made.collection.exists():
                draw_small_collection(made.collection)
            make_open_clip_folder(folder / "clip", seed=0)
            evaluate = ["evaluate", made.run, "--clip", folder / "clip"]
            faithfulness = ["faithfulness", made.run, "--n", "4"]
            for words in (made.words("run"), faithfulness, made.words("caption"), evaluate, made.words("run")):
                done = ready.do(*words)
                assert done.code == 0, done.err
            made.run.rename(made.finished)
        yield made


def harmed(bench: Bench, file: str, harm: str, command: str, expected: tuple[Any, Any]) -> Cell:
    """Harm a file of a copy and give a command."""
    run = bench.fresh()
    HARMS[harm](run / file)
    done = bench.do(command)
    said = done.err.strip()
    named = [line for line in said.splitlines() if file in line or str(run / file) in line]
    state = end_state(run)
    published = command != "publish" or bench.published() == expected[1]
    right = state == expected[0] and published
    outcome: Outcome
    if done.has_traceback or done.code < 0 or done.code not in (0, 1, 2, 3):
        outcome = "traceback"
    elif done.code in (1, 2):
        published_nothing = not any(len(files) > 1 for files in bench.published().values())
        outcome = "refused" if len(done.error) == 1 and published_nothing else "silent"
    elif right:
        outcome = "healed"
    elif named:
        outcome = "noticed"
    else:
        outcome = "silent"
    differing = sorted(name for name in {*state, *expected[0]} if state.get(name) != expected[0].get(name))
    said = f"{said[-1500:]} | differs: {differing}"
    return Cell(file, harm, command, outcome, done.code, bool(named), published, said)


def cells(
    bench: Bench,
    files: Iterable[str],
    commands: Iterable[str] = COMMANDS,
    harms: Iterable[str] = PLAIN,
    but: Container[tuple[str, str, str]] = (),
) -> Iterator[Cell]:
    """Do the cells of some files, but for those of which (file, harm, command) is in `but`."""
    expected = {command: bench.undisturbed(command) for command in commands}
    for name in product(files, harms, expected):
        if name not in but:
            yield harmed(bench, *name, expected[name[-1]])


def check_all_damage(bench: Bench, command: str) -> None:
    """Do the plain cells of a command, all of which have to end well."""
    found = list(cells(bench, files_of(bench.finished), [command]))
    assert len(found) > 40 * len(PLAIN)
    assert not [cell for cell in found if cell.outcome in FAULTS], table(found)


def done_before(log: Path) -> list[Cell]:
    """The cells that have a line."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else ()
    return [Cell(**json.loads(line)) for line in lines]


def table(found: Iterable[Cell]) -> str:
    """Cells by outcome, per command."""
    counts = Counter((cell.command, cell.outcome) for cell in found)
    outcomes = ("healed", "refused", "noticed", *FAULTS)
    lines = ["| command | " + " | ".join(outcomes) + " |", "| --- |" + " --- |" * len(outcomes)]
    for command in COMMANDS:
        lines.append(f"| {command} | " + " | ".join(str(counts[command, outcome]) for outcome in outcomes) + " |")
    return "\n".join(lines)


def main() -> None:
    """Do all cells."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="*")
    parser.add_argument("--command", choices=COMMANDS)
    parser.add_argument("--harm", choices=HARMS)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    log = arguments.folder / "cells.jsonl"
    found = done_before(log)
    with bench(arguments.folder) as made, log.open("a", encoding="utf-8") as lines:
        files = [file for file in files_of(made.finished) if fnmatch(file, arguments.only)]
        for cell in cells(
            made,
            files,
            [arguments.command] if arguments.command else COMMANDS,
            [arguments.harm] if arguments.harm else PLAIN,
            {(cell.file, cell.harm, cell.command) for cell in found},
        ):
            found.append(cell)
            lines.write(json.dumps(asdict(cell)) + "\n")
            lines.flush()
            if cell.outcome in FAULTS:
                print(cell.file, cell.harm, cell.command, cell.outcome, cell.code, flush=True)
    print(f"{len(files)} files, {len(found)} cells\n{table(found)}")


if __name__ == "__main__":
    main()
