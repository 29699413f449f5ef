"""Two commands on one run at the same time: one is done, the other too or refused in one line, and nothing mixes."""

from __future__ import annotations

import pytest
from damage.matrix import Bench
from damage.simultaneous import PAIRS, Pair, together


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_of_two_commands_at_the_same_time_one_is_done_and_nothing_mixes(made: Bench, pair: Pair):
    found = together(made, pair)
    codes = found.first.code, found.second.code
    assert 0 in codes
    for done in (found.first, found.second):
        assert not done.has_traceback, done.err
        assert done.code == 0 or len(done.error) == 1, done.err
    assert found.same, codes
