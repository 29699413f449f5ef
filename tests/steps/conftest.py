"""One finished run on drawn images, for the tests of all steps."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from damage.commands import Forks, forks
from drawn_collections import some_of
from filelock import FileLock
from steps.small_runs import N_SPECIES, SMALL

from sae_traits.cli import main
from sae_traits.testbench.drawn import draw_collection


def made_once(folder: Path, make: Callable[[Path], object]) -> Path:
    """A folder that the first worker to ask for it makes, and that the others wait for."""
    folder.parent.mkdir(exist_ok=True)
    made = folder.with_suffix(".made")
    with FileLock(folder.with_suffix(".lock")):
        if not made.exists():
            make(folder)
            made.touch()
    return folder


@pytest.fixture(scope="session")
def of_all_workers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the workers of one run of the tests have in common."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "of_all_workers"


@pytest.fixture(scope="session")
def whole_drawn(of_all_workers: Path) -> Path:
    """Sixteen drawn species, five images each, of which each module takes what it needs."""
    return made_once(of_all_workers / "whole", partial(draw_collection, images_per_species=5, workers=1))


@pytest.fixture(scope="session")
def drawn(whole_drawn: Path, of_all_workers: Path) -> Path:
    """Five images of each of nine species: four genera, one with a single species, of two plans of the body."""
    taken = partial(some_of, whole_drawn, n_species=N_SPECIES, images_per_species=5)
    return made_once(of_all_workers / "drawn", taken)


@pytest.fixture(scope="session")
def finished(drawn: Path, of_all_workers: Path) -> Path:
    """A finished run, not to be changed."""

    def run(folder: Path) -> None:
        assert main(["run", str(drawn), "--out", str(folder), *SMALL]) == 0

    return made_once(of_all_workers / "finished", run)


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture(scope="session")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Commands in processes of their own, which may be killed, and which need not import everything anew."""
    with forks(tmp_path_factory.mktemp("forked")) as ready:
        yield ready
