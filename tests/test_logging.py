"""Messages and progress: silent in a library, plain lines on the command line, and rates that are right."""

import logging
import subprocess
import sys
import time

import pytest

from sae_traits.logging import duration, printing_to_stderr, progress_to, say, track, warn


class Clock:
    """A clock that stands still unless it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def items(self, *seconds):
        """Numbers, each of which takes so long to make."""
        for number, taken in enumerate(seconds):
            self.now += taken
            yield number


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


def lines_of(capsys, items, **options):
    with printing_to_stderr():
        list(track(items, "reading", **options))
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2.0 h"), (72 * 3600, "3.0 days")],
)
def test_a_time_is_told_in_the_unit_that_suits_it(seconds, words):
    assert duration(seconds) == words


def test_there_is_a_line_before_the_first_item(capsys):
    with printing_to_stderr():
        next(track(iter([]), "reading", total=832), None)
    assert capsys.readouterr().err == "reading: 0 of 832 images\n"


def test_the_rate_counts_the_time_of_the_first_item_and_of_a_burst_after_it(capsys, clock):
    # Workers take nine seconds to start, and have ten items ready then; after that, an item takes a second.
    lines = lines_of(capsys, clock.items(9, *[0] * 9, *[1] * 20), total=30)
    assert lines[:2] == ["reading: 0 of 30 images", "reading: 1 of 30 images, 0.1/s, 4 min left"]
    assert lines[2] == "reading: 15 of 30 images, 1.1/s, 14 s left"


def test_a_long_work_says_how_far_it_is_every_few_seconds_and_not_at_the_end(capsys, clock):
    lines = lines_of(capsys, clock.items(*[2] * 9), total=9, unit="batch")
    assert [line.partition(",")[0] for line in lines] == [
        "reading: 0 of 9 batches",
        "reading: 3 of 9 batches",
        "reading: 6 of 9 batches",
    ]
    assert lines[1].endswith("0.5/s, 12 s left")


def test_without_a_total_there_is_no_time_left(capsys, clock):
    lines = lines_of(capsys, clock.items(*[2] * 4), total=None, unit="row")
    assert lines == ["reading: 0 rows", "reading: 3 rows, 0.5/s"]


@pytest.mark.parametrize("total", [None, 3])
def test_items_pass_through_in_their_order(total):
    assert list(track(iter("abc"), "reading", total=total)) == ["a", "b", "c"]


def test_a_callback_is_told_of_everything_that_is_counted_and_of_nothing_afterwards():
    told = []
    with progress_to(lambda *progress: told.append(progress)):
        list(track("ab", "reading", total=2))
        list(track("a", "fetching", total=None, unit="row"))
    list(track("ab", "reading", total=2))
    assert told == [
        ("reading", 0, 2, "image"),
        ("reading", 1, 2, "image"),
        ("reading", 2, 2, "image"),
        ("fetching", 0, None, "row"),
        ("fetching", 1, None, "row"),
    ]


def test_messages_and_warnings_are_records_of_one_logger(caplog):
    with caplog.at_level(logging.INFO, logger="sae_traits"):
        say("half is done")
        warn("half is left out")
    assert [(r.name, r.levelname, r.getMessage()) for r in caplog.records] == [
        ("sae_traits", "INFO", "half is done"),
        ("sae_traits", "WARNING", "half is left out"),
    ]


def test_the_command_line_prints_each_line_once_and_stops_with_its_command(capsys):
    for _ in range(2):
        with printing_to_stderr():
            say("half is done")
            warn("half is left out")
        say("nobody hears this")
    assert capsys.readouterr().err == "half is done\nhalf is left out\n" * 2


_AS_A_LIBRARY = """
import logging, sys
from sae_traits.logging import say, track, warn
def work(message):
    say(f"{message} said"), warn(f"{message} warned"), list(track("ab", message, total=2))
work("silent")
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
work("configured")
logging.getLogger("sae_traits").setLevel(logging.WARNING)
work("quiet")
"""


def test_a_library_says_only_what_its_user_configures():
    done = subprocess.run([sys.executable, "-c", _AS_A_LIBRARY], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "INFO configured said",
        "WARNING configured warned",
        "INFO configured: 0 of 2 images",
        "WARNING quiet warned",
    ]


def test_a_block_inside_another_prints_no_line_twice(capsys):
    with printing_to_stderr(), printing_to_stderr():
        say("once")
    say("never")
    assert capsys.readouterr().err == "once\n"
