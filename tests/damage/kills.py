"""SIGKILL at random moments of a command, the same command again, and whether it ends as if nothing had happened.

    python -m damage.kills FOLDER [--command NAME] [--kills N]

with `tests` and the package on PYTHONPATH kills each command so often, and prints a table. Each end that is compared is
at once a line of FOLDER/kills.jsonl, and kills that are there already count.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

from damage.matrix import Bench, bench
from damage.tiny_run import OPTIONS, end_state
from describer_server.running import RunningServer, describer_server

ASKING = ("annotate", "caption")
"""Commands that ask a describer's server."""
KILLS_IN_A_ROW = 4
"""At most, before a command is left to end."""
KILLS = {
    "run": 100,
    "annotate": 30,
    "caption": 30,
    "train": 30,
    "evaluate": 30,
    "publish": 30,
    "rehydrate": 30,
    "export": 30,
}


@dataclass(frozen=True)
class Case:
    """A command to be killed."""

    name: str
    prepare: Callable[[], None]
    """Put into place what it starts from."""
    words: list[object]
    state: Callable[[], Any]
    """What it ends in."""
    environment: dict[str, str]
    is_done: Callable[[str], bool] = lambda said: False
    """Whether a refusal says that the killed attempt had finished."""


@dataclass(frozen=True)
class End:
    """What became of a command that was killed some times in a row and then left to end."""

    command: str
    kills: int
    different: bool = False
    failed: bool = False
    why: str = ""


def kill_and_finish(case: Case, made: Bench, n_kills: int, moments: random.Random) -> Iterator[End]:
    """Kill a command so often, some times in a row, and compare every end with the undisturbed one."""
    seconds = 0.0
    for _ in range(2):  # what the first imports, later ones have
        case.prepare()
        started = time.monotonic()
        done = made.forks.do(*case.words, **case.environment)
        assert done.code == 0, done.err
        seconds = time.monotonic() - started
    expected = case.state()
    while n_kills > 0:
        case.prepare()
        kills = 0
        for _ in range(min(KILLS_IN_A_ROW, n_kills)):
            running = made.forks.start(*case.words, **case.environment)
            started = time.monotonic()
            end = started + moments.uniform(0, seconds)
            while time.monotonic() < end and running.is_running():
                time.sleep(0.01)
            running.kill()
            if not running.wait().was_killed:  # it was faster
                seconds = min(seconds, time.monotonic() - started)
                break
            kills += 1
        n_kills -= kills
        yield _compared(kills, made, case, expected)


def _compared(kills: int, made: Bench, case: Case, expected: Any) -> End:
    done = made.forks.do(*case.words, **case.environment)
    if (done.code != 0 and not case.is_done(done.err)) or done.has_traceback:
        return End(case.name, kills, failed=True, why=done.err[-1500:])
    state = case.state()
    names = {*state, *expected} if isinstance(state, dict) else ()
    differing = sorted(name for name in names if state.get(name) != expected.get(name))
    return End(case.name, kills, different=state != expected, why=", ".join(differing))


def leftovers(folder: Path) -> dict[str, str]:
    """Half-written files that a kill left, which nothing has cleared away."""
    ends = ("partial", "-old", ".incomplete", ".checkpoint")
    return {str(path): "left" for path in folder.rglob("*") if path.name.endswith(ends)}


def hub_state(made: Bench) -> dict[str, Any]:
    """Branches, tags, titles and trees of all repositories."""
    found = {}
    for (kind, name), repository in made.hub.store.repositories.items():
        trees = {branch: repository.find(branch).files for branch in repository.branches}
        found[f"{kind} {name}"] = (
            {branch: {path: file.oid for path, file in files.items()} for branch, files in trees.items()},
            repository.tags,
            [commit.title for commit in repository.history(repository.find("main"))],
        )
    return found


def cases(made: Bench, server: RunningServer) -> dict[str, Case]:
    """All commands that are killed."""
    run, folder = made.run, made.folder / "killed"
    by_reference = made.folder / "by-reference"

    def fresh() -> None:
        made.fresh()
        made.hub.store.clear()

    def nothing() -> None:
        shutil.rmtree(run, ignore_errors=True)

    def unevaluated() -> None:
        fresh()
        shutil.rmtree(run / "evaluation")
        shutil.rmtree(run / "embeddings")

    def new_folder() -> None:
        for path in made.folder.glob("killed*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def of_run() -> dict[str, str]:
        return end_state(run) | leftovers(run)

    def of_folder() -> dict[str, str]:
        return end_state(folder) | leftovers(made.folder / "killed")

    if not by_reference.exists():
        made.fresh()
        done = made.forks.do("run", made.collection, "--out", run, *OPTIONS, "--images", "reference")
        assert done.code == 0, done.err
        shutil.copytree(run / "dataset", by_reference)
    asking = ["--describer", "server", "--describer-model", "m", "--base-url", server.base_url, "--in-flight", "4"]
    key = {"OPENAI_API_KEY": "none"}
    photographs = ["--photographs", made.collection]
    every = [
        Case("run", nothing, made.words("run"), of_run, {}),
        Case("annotate", fresh, ["annotate", run, *asking], of_run, key),
        Case("caption", fresh, ["caption", run, *asking], of_run, key),
        Case("train", fresh, ["train", run, "--n-patches", "60000"], of_run, {}),
        Case("evaluate", unevaluated, made.words("evaluate"), of_run, {}),
        Case("publish", fresh, made.words("publish"), lambda: hub_state(made), {}),
        Case("rehydrate", new_folder, ["rehydrate", by_reference, folder, *photographs], of_folder, {}),
        Case(
            "export",
            new_folder,
            ["export", made.finished, folder, "--to", "webdataset"],
            of_folder,
            {},
            lambda said: "exists and is not an empty folder" in said,
        ),
    ]
    return {case.name: case for case in every}


def kill_while_it_hangs(
    case: Case, made: Bench, server: RunningServer, n_kills: int, moments: random.Random
) -> Iterator[End]:
    """Kill a command that asks three times in a row while the server does not answer, and let it answer then."""
    case.prepare()
    server.change(faults={})
    done = made.forks.do(*case.words, **case.environment)
    assert done.code == 0, done.err
    expected = case.state()
    for answers_none in cycle((True, False)):
        if n_kills <= 0:
            return
        case.prepare()
        server.change(faults={"stalled": 1.0 if answers_none else 0.3}, stall=60.0)
        kills = 0
        for _ in range(3):
            before = server.n_requests()
            running = made.forks.start(*case.words, **case.environment)
            while server.n_requests() == before and running.is_running():
                time.sleep(0.02)
            time.sleep(moments.uniform(0, 1.5))
            running.kill()
            kills += running.wait().was_killed
        server.change(faults={})
        n_kills -= kills
        yield _compared(kills, made, case, expected)


@contextmanager
def killing(folder: Path) -> Iterator[tuple[Bench, RunningServer, dict[str, Case]]]:
    """A bench, a describer's server, and the commands to be killed."""
    with bench(folder) as made, describer_server() as server:
        yield made, server, cases(made, server)


def kill(made: Bench, server: RunningServer, case: Case, n_kills: int, seed: int = 0) -> Iterator[End]:
    """Kill one command so often."""
    moments = random.Random(f"{case.name} {seed}")
    if case.name in ASKING:
        return kill_while_it_hangs(case, made, server, n_kills, moments)
    return kill_and_finish(case, made, n_kills, moments)


def done_before(log: Path, name: str) -> list[End]:
    """What became of that command before."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else ()
    return [end for end in (End(**json.loads(line)) for line in lines) if end.command == name]


def main() -> None:
    """Kill all commands."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--command", choices=KILLS)
    parser.add_argument("--kills", type=int)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    log = arguments.folder / "kills.jsonl"
    print("| command | kills | ends compared | not the same | failed |\n| --- | --- | --- | --- | --- |", flush=True)
    with killing(arguments.folder) as (made, server, every), log.open("a", encoding="utf-8") as lines:
        for name in [arguments.command] if arguments.command else KILLS:
            ends = done_before(log, name)
            left = (arguments.kills or KILLS[name]) - sum(end.kills for end in ends)
            for end in kill(made, server, every[name], left, seed=len(ends)) if left > 0 else ():
                ends.append(end)
                lines.write(json.dumps(asdict(end)) + "\n")
                lines.flush()
                if end.why:
                    print(end.why, flush=True)
            kills, different, failed = (
                sum(getattr(end, key) for end in ends) for key in ("kills", "different", "failed")
            )
            print(f"| {name} | {kills} | {len(ends)} | {different} | {failed} |", flush=True)


if __name__ == "__main__":
    main()
