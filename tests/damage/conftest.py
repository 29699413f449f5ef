"""One finished run and one process to fork commands from, for all tests of damage, kills and simultaneous commands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from damage.kills import killing
from damage.matrix import Bench
from describer_server.running import RunningServer


@pytest.fixture(scope="session")
def benches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bench, RunningServer, dict]]:
    """A bench, a describer's server, and the commands to be killed."""
    with killing(tmp_path_factory.mktemp("damage")) as opened:
        yield opened


@pytest.fixture
def made(benches: tuple[Bench, RunningServer, dict]) -> Bench:
    """The bench, with a copy of the finished run and a Hub that holds nothing."""
    benches[0].fresh()
    benches[0].hub.store.clear()
    return benches[0]


@pytest.fixture
def server(benches: tuple[Bench, RunningServer, dict]) -> RunningServer:
    """An OpenAI-compatible server that answers as it should."""
    benches[1].change(faults={}, reply=None, latency=0.0, key=None)
    return benches[1]
