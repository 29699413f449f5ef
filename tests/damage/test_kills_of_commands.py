"""SIGKILL at random moments of every command, and the same command again: it ends as if nothing had happened."""

from __future__ import annotations

import pytest
from damage.kills import ASKING, KILLS, Case, kill
from damage.matrix import Bench
from describer_server.running import RunningServer


@pytest.mark.slow
@pytest.mark.parametrize("name", KILLS)
def test_a_killed_command_ends_the_same_when_it_is_given_again(
    benches: tuple[Bench, RunningServer, dict[str, Case]], made: Bench, server: RunningServer, name: str
):
    found = list(kill(made, server, benches[2][name], n_kills=3 if name in ASKING else 4))
    assert sum(end.kills for end in found) >= 3
    assert not [end for end in found if end.different or end.failed], found
