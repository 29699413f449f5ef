"""Break the code in known ways, on copies, and see that a test notices each time.

Usage: python tests/mutants/run_mutants.py [--jobs N] [NAME …]

mutants.yaml lists the mutants. One survives where none of its tests fails; then a test is missing or too weak. The exit
code is 1 if one survives, if its old text does not occur exactly once in its file (the code moved: adapt the list), or
if its tests cannot be run or fail without it.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

LIST = Path(__file__).with_name("mutants.yaml")
NOT_COPIED = shutil.ignore_patterns(".git", ".venv", ".envs", "__pycache__", ".*_cache", ".hypothesis", ".coverage*")
NOT_COPIED_AT_THE_TOP = {"runs", "build", "dist"}
"""Folders of output; packages may have folders of the same names."""
MAX_SECONDS = 900
"""A mutant whose tests take longer than this has made them hang, which is noticed, too."""
TESTS_FAILED = 1
"""pytest's exit code; any other but 0 means that the tests could not be run."""


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One way to break the code: an exact text of a file, what replaces it, and the tests that must notice."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a mutant; `killed_by` is the test that failed first, `problem` says why there is none."""

    name: str
    killed_by: str | None = None
    problem: str | None = None
    seconds: float = 0.0


def read_mutants(path: Path) -> list[Mutant]:
    """Read a list of mutants from a YAML file."""
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [Mutant(**entry | {"tests": tuple(entry["tests"])}) for entry in entries]


def try_mutant(project: Path, mutant: Mutant) -> Outcome:
    """Run the tests of a mutant on a copy of the project, first without it, then with it; the project is only read."""
    start = time.monotonic()
    with TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder) / project.name
        shutil.copytree(project, copy, ignore=lambda folder, names: _left_out(project, folder, names), symlinks=True)
        killed_by, problem = _try_on(copy, mutant)
    return Outcome(name=mutant.name, killed_by=killed_by, problem=problem, seconds=time.monotonic() - start)


def _left_out(project: Path, folder: str, names: list[str]) -> set[str]:
    at_the_top = NOT_COPIED_AT_THE_TOP if Path(folder) == project else set()
    return NOT_COPIED(folder, names) | (at_the_top & {*names})


def _try_on(copy: Path, mutant: Mutant) -> tuple[str | None, str | None]:
    """What killed a mutant, and what is wrong where nothing did."""
    file = copy / mutant.file
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    if (n_found := text.count(mutant.old)) != 1:
        return None, f"its old text occurs {n_found} times in {mutant.file}"
    failed, problem = _run_tests(copy, mutant.tests)
    if failed or problem:
        return None, f"without it, {problem or f'{failed} fails'}"
    file.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    failed, problem = _run_tests(copy, mutant.tests)
    return failed, None if failed else problem or "survived"


def _run_tests(copy: Path, tests: Sequence[str]) -> tuple[str | None, str | None]:
    """The first test that fails, and why the tests could not be run; both None where all pass."""
    # The copy comes before the installed package, which may be the project itself.
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "PYTEST_ADDOPTS": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-rfE", "--tb=no", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, timeout=MAX_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"more than {MAX_SECONDS} s", None
    last = "".join((done.stdout + done.stderr).strip().splitlines()[-1:])
    if done.returncode == 0:
        return None, None if "passed" in last else f"its tests cannot run here ({last}); is SAE_TRAITS_SHARED set?"
    # A fixture that breaks counts as its test's failure; a file that cannot be imported has no test.
    failure = re.search(r"^(?:FAILED|ERROR) (\S+::.*?)(?: - .*)?$", done.stdout, flags=re.MULTILINE)
    if done.returncode == TESTS_FAILED and failure:
        return failure[1], None
    return None, f"pytest ended with {done.returncode}: {last}"


def try_all(project: Path, mutants: Sequence[Mutant], *, n_jobs: int = 1) -> bool:
    """Try mutants, print a table of what became of them, and say whether all were killed."""
    width = max(len(mutant.name) for mutant in mutants)
    print(f"{'mutant':{width}}  seconds  killed by")
    all_killed = True
    with ThreadPoolExecutor(n_jobs) as pool:
        for outcome in pool.map(lambda mutant: try_mutant(project, mutant), mutants):
            text = outcome.killed_by or f"NONE: {outcome.problem}"
            print(f"{outcome.name:{width}}  {outcome.seconds:7.1f}  {text}", flush=True)
            all_killed &= outcome.killed_by is not None
    return all_killed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="Only these mutants (all).")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="Mutants that are tried at the same time (1).")
    arguments = parser.parse_args()
    mutants = read_mutants(LIST)
    if unknown := set(arguments.names) - {mutant.name for mutant in mutants}:
        parser.error(f"there is no mutant {', '.join(sorted(unknown))} in {LIST}")
    chosen = [mutant for mutant in mutants if not arguments.names or mutant.name in arguments.names]
    return 0 if try_all(LIST.parents[2], chosen, n_jobs=arguments.jobs) else 1


if __name__ == "__main__":
    sys.exit(main())
