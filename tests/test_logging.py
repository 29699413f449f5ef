"""Progress lines on a stderr that is no terminal."""

import re
import time

import pytest

from sae_traits import logging


def test_the_rate_leaves_out_the_time_until_the_first_item(capsys, monkeypatch):
    monkeypatch.setattr(logging, "SECONDS_BETWEEN_LINES", 0.05)

    def slow_to_start():
        time.sleep(0.5)
        for number in range(20):
            yield number
            time.sleep(0.01)

    assert list(logging.track(slow_to_start(), "reading", total=20)) == list(range(20))
    lines = capsys.readouterr().err.splitlines()
    assert lines, "twenty items take 0.2 seconds, four times the pause between lines"
    assert not any(line.startswith("reading: 1 of 20") for line in lines)
    rates = [float(rate) for rate in re.findall(r"images, ([0-9.]+)/s", "\n".join(lines))]
    assert rates[0] > 10, "at 0.5 s of start and 10 ms an item, counting the start would give less than 10 at the first"


@pytest.mark.parametrize("total", [None, 3])
def test_items_pass_through_in_their_order(total):
    assert list(logging.track(iter("abc"), "reading", total=total)) == ["a", "b", "c"]
