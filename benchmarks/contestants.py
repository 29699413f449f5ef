"""Runs a task of `peers.contract` in the environment of a library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from peers.contract import Task

FOLDER = Path(__file__).parent
ENVIRONMENTS = FOLDER / ".envs"
VERSIONS_FILE = "versions.json"
OURS = "ours"
NAMES = {
    OURS: "sae-traits",
    "sae_lens": "SAELens",
    "dictionary_learning": "dictionary_learning",
    "overcomplete": "overcomplete",
}
"""Module in `peers` -> what the library calls itself."""


def environment_python(name: str) -> Path:
    """The interpreter that a library runs in; ours is this one."""
    return Path(sys.executable) if name == OURS else ENVIRONMENTS / name / "bin" / "python"


def check_environments() -> None:
    """Exit with what to do, where an environment is missing."""
    missing = [name for name in NAMES if name != OURS and not (ENVIRONMENTS / name / VERSIONS_FILE).is_file()]
    if missing:
        sys.exit(f"there is no environment for {', '.join(missing)}; run `make benchmark-environments` first")


def run_task(name: str, task: Task) -> dict[str, Any]:
    """What a library answers.

    Raises:
        RuntimeError: it failed; the message ends with what it said.
    """
    command = [str(environment_python(name)), "-m", f"peers.{name}", task.to_json()]
    # HF_HUB_OFFLINE: nothing here needs the network, and some libraries look for updates when they are imported.
    environment = os.environ | {"OMP_NUM_THREADS": str(task.threads), "HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}
    done = subprocess.run(command, cwd=FOLDER, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} failed on {task}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])
