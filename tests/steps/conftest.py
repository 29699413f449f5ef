"""One finished run on drawn images, for the tests of all steps."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from damage.commands import Forks, forks
from drawn_collections import some_of
from steps.small_runs import N_SPECIES, SMALL

from sae_traits.cli import main
from sae_traits.testbench.drawn import draw_collection


@pytest.fixture(scope="session")
def whole_drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen drawn species, five images each, of which each module takes what it needs."""
    folder = tmp_path_factory.mktemp("whole") / "collection"
    draw_collection(folder, images_per_species=5, workers=1)
    return folder


@pytest.fixture(scope="session")
def drawn(whole_drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five images of each of nine species: four genera, one with a single species, of two plans of the body."""
    folder = tmp_path_factory.mktemp("drawn") / "collection"
    return some_of(whole_drawn, folder, n_species=N_SPECIES, images_per_species=5)


@pytest.fixture(scope="session")
def finished(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    assert main(["run", str(drawn), "--out", str(folder), *SMALL]) == 0
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture(scope="session")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Commands in processes of their own, which may be killed, and which need not import everything anew."""
    with forks(tmp_path_factory.mktemp("forked")) as ready:
        yield ready
