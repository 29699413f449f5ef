"""Make an environment of its own for each library that sae-traits is compared with, and see each trainer train a step.

    python benchmarks/environments.py        (make benchmark-environments)

Some 2 GB and two minutes each; what is complete is left alone. versions.json in each environment says what is in it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import torch
from contestants import ENVIRONMENTS, VERSIONS_FILE, environment_python, run_task
from peers.contract import PATCHES, Task
from safetensors.torch import save_file

CONSTRAINTS = Path(__file__).parent.parent / "constraints" / "ci-cpu.txt"
REQUIREMENTS = {
    "sae_lens": ("sae-lens==6.54.12",),
    "dictionary_learning": ("dictionary-learning==0.1.0",),
    # overcomplete calls a function that matplotlib 3.11 removed.
    "overcomplete": ("overcomplete==0.3.0", "matplotlib>=3.9.1,<3.11"),
}

READERS = {
    # With a torch that is built for CPUs this torchvision cannot be imported without its operators' names.
    "open_clip": ("open_clip_torch==3.3.0", "torchvision==0.28.0"),
}
"""Libraries that tests have read our exports."""


def make_environment(name: str, requirements: tuple[str, ...]) -> None:
    """Install, train a step, and record the versions last, so that an environment with a record is complete."""
    record = ENVIRONMENTS / name / VERSIONS_FILE
    if record.is_file() and json.loads(record.read_text())["requirements"] == list(requirements):
        print(f"{name}: complete")
        return
    print(f"{name}: installing {' '.join(requirements)}", flush=True)
    venv.create(ENVIRONMENTS / name, with_pip=True, symlinks=True)
    python = str(environment_python(name))
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--constraint", str(CONSTRAINTS), *requirements], check=True)
    rates = {architecture: _trains(name, architecture) for architecture in ("topk", "relu") if name not in READERS}
    listed = subprocess.run([*pip, "list", "--format", "json"], check=True, capture_output=True, text=True).stdout
    packages = {package["name"]: package["version"] for package in json.loads(listed)}
    values = {"requirements": requirements, "python": sys.version.split()[0], "packages": packages}
    record.write_text(json.dumps(values, indent=1) + "\n")
    trains = " and ".join(f"{architecture} at {rate:,.0f}" for architecture, rate in rates.items())
    print(f"{name}: trains {trains} patches/s on 16 components" if rates else f"{name}: installed")


def _trains(name: str, architecture: str) -> float:
    """Patches a second over a step on small random features."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "patches.safetensors")
        save_file({PATCHES: torch.randn(256, 16, generator=torch.Generator().manual_seed(0))}, file)
        task = Task(
            action="steps", patches=str(file), architecture=architecture, n_latents=64, n_steps=1, batch_size=64, k=4
        )
        return run_task(name, task)["patches_per_second"]


def main() -> None:
    """Make all of them."""
    ENVIRONMENTS.mkdir(exist_ok=True)
    for name, requirements in (REQUIREMENTS | READERS).items():
        make_environment(name, requirements)


if __name__ == "__main__":
    main()
