"""One finished run on drawn images, for the tests of all steps."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from steps.small_runs import SMALL

from sae_traits.cli import main
from sae_traits.testbench.drawn import draw_collection


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen drawn species, five images each."""
    folder = tmp_path_factory.mktemp("drawn") / "collection"
    draw_collection(folder, images_per_species=5, workers=1)
    return folder


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
