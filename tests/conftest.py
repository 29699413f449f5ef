"""Fixtures that several rooms share."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Read when huggingface_hub is imported: the loopback Hub takes plain HTTP uploads, and tests report to no one.
os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["NO_PROXY"] = ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1"]))

from hub.answers import Hub
from hub.loopback import running_hub, subprocess_environment


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest: a worker that got it last would leave the others idle.

    That is the damage to every file, in `make test-all`; in `make test` whole runs. But the second worker begins with
    the test server, as both would only wait for the one finished run.
    """
    first = next((item.path for item in items if "steps" in item.path.parts), None)

    def place(item: pytest.Item) -> int:
        if item.path.name.startswith("test_damaged_files"):
            return -1
        if "steps" in item.path.parts:
            return 0 if item.path == first else 2
        return 1 if item.path.name == "test_server.py" else 3

    items.sort(key=place)


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A Hub of its own for the test: `hub.url`, `hub.token` (of the user `curator` of `museum`), `hub.requests` …

    In the process of the test, give clients `endpoint=hub.url` and `token=hub.token`.
    """
    with running_hub(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture
def hub_environment(hub: Hub, tmp_path: Path) -> dict[str, str]:
    """The environment of a subprocess whose clients use `hub` without being told, with an empty cache and a token."""
    return subprocess_environment(hub, tmp_path / "hf_home")


@pytest.fixture(scope="session")
def golden() -> Path:
    """Outputs of other people's programs; see tests/golden/README.md."""
    return Path(__file__).parent / "golden"


@pytest.fixture
def run_peer(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Run a script of the folder `peer_scripts` in the environment of another library; skip where there is none."""
    benchmarks = Path(__file__).parent.parent / "benchmarks"

    def run(library: str, script: str, *arguments: Path) -> None:
        environment = benchmarks / ".envs" / library
        if not (environment / "versions.json").is_file():
            pytest.skip(f"{library} is not installed in {environment}; run `make benchmark-environments`")
        done = subprocess.run(
            [environment / "bin" / "python", request.path.parent / "peer_scripts" / script, *arguments],
            env=os.environ | {"PYTHONPATH": str(benchmarks), "HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]

    return run
