"""Fixtures of the tests of SAEs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BENCHMARKS = HERE.parent.parent / "benchmarks"


@pytest.fixture
def run_peer() -> Callable[..., None]:
    """Run one of `peer_scripts` in the environment of another library; skip where it is not installed."""

    def run(library: str, script: str, *arguments: Path) -> None:
        environment = BENCHMARKS / ".envs" / library
        if not (environment / "versions.json").is_file():
            pytest.skip(f"{library} is not installed in {environment}; run `make benchmark-environments`")
        done = subprocess.run(
            [environment / "bin" / "python", HERE / "peer_scripts" / script, *arguments],
            env=os.environ | {"PYTHONPATH": str(BENCHMARKS), "HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]

    return run
