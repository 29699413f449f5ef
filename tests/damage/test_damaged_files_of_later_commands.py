"""The second half of the matrix of `test_damaged_files`, in a file of its own so that two workers share it."""

from __future__ import annotations

import pytest
from damage.matrix import LATER, Bench, check_all_damage

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("command", LATER)
def test_no_damage_is_silent_and_none_ends_in_a_traceback(made: Bench, command: str):
    check_all_damage(made, command)
