import sqlite3
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis.strategies import lists, sampled_from

from sae_traits.errors import StoreError
from sae_traits.traits.ledger import MAXIMUM_ATTEMPTS, CallIdentity, Ledger, LedgerEntry, Outcome, call_key


def identity(key="a", **arguments):
    return CallIdentity(key=key, **{"trait_id": "t", "describer": "d", "model": "m@1", "prompt": "p"} | arguments)


def attempt(ledger, key="a", state="ok", **arguments):
    ledger.begin([identity(key)], {})
    ledger.record([Outcome(key=key, state=state, **arguments)])


def test_what_is_recorded_is_there_after_reopening(tmp_path):
    path = tmp_path / "traits" / "ledger.sqlite"
    said = {"description": {"text": "Ein grüner Flügel"}, "usage": {"tokens": 3}, "seconds": 0.5, "raw": "{}"}
    with Ledger(path) as ledger:
        ledger.begin([identity("a", n_images=3), identity("b")], {"region": {"length_px": 2.5}})
        ledger.record([Outcome(key="a", state="ok", **said), Outcome(key="b", state="failed", error="timeout")])
    with Ledger(path) as ledger:
        assert ledger.get("a") == LedgerEntry(
            key="a", trait_id="t", n_images=3, describer="d", model="m@1", prompt="p", state="ok", attempts=1, **said
        )
        assert [e.key for e in ledger] == ["a", "b"]
        assert ledger.counts() == {"pending": 0, "ok": 1, "invalid": 0, "failed": 1}
        assert ledger.get("c") is None
        assert ledger.measurements(["region", "other"]) == {"region": {"length_px": 2.5}}


def test_a_finished_key_is_never_asked_again_and_a_failed_one_only_so_often(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        attempt(ledger, "good")
        attempt(ledger, "bad", "invalid")
        assert ledger.open_calls(["good", "bad", "new"]) == {"bad": 1, "new": 0}
        for _ in range(MAXIMUM_ATTEMPTS - 1):
            attempt(ledger, "bad", "invalid")
        assert ledger.open_calls(["good", "bad", "new"]) == {"new": 0}
        bad = ledger.get("bad")
        assert bad is not None
        assert not bad.is_open
        assert bad.attempts == MAXIMUM_ATTEMPTS


def test_usage_and_seconds_of_all_attempts_add_up(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        attempt(ledger, state="invalid", raw="?", usage={"prompt": 10, "answer": 2}, seconds=1.0, error="no JSON")
        attempt(ledger, state="ok", raw="{}", usage={"prompt": 10, "answer": 5}, seconds=2.0, description={"text": "A"})
        entry = ledger.get("a")
    assert entry is not None
    assert (entry.usage, entry.seconds, entry.attempts) == ({"prompt": 20, "answer": 7}, 3.0, 2)
    assert (entry.state, entry.raw, entry.error) == ("ok", "{}", None)


@given(kinds=lists(sampled_from(["killed", "released", "failed", "invalid"]), max_size=6))
def test_attempts_count_what_was_sent_whatever_became_of_it(tmp_path_factory, kinds):
    with Ledger(tmp_path_factory.mktemp("ledger") / "l.sqlite") as ledger:
        for kind in kinds:
            ledger.begin([identity()], {})
            if kind == "released":
                ledger.release(["a"])
            elif kind != "killed":
                ledger.record([Outcome(key="a", state=kind)])
        sent = sum(kind != "released" for kind in kinds)
        assert ledger.open_calls(["a"]) == ({"a": sent} if sent < MAXIMUM_ATTEMPTS else {})
        entry = ledger.get("a")
        assert entry is None if not kinds else entry is not None and entry.attempts == sent


def test_an_answer_that_came_is_not_released(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        attempt(ledger, "a", "invalid")
        ledger.release(["a"])
        assert ledger.open_calls(["a"]) == {"a": 1}


def test_a_call_that_is_under_way_when_its_process_is_killed_has_been_asked(tmp_path):
    code = """
import os, pathlib, signal, sys
from sae_traits.traits.ledger import CallIdentity, Ledger
ledger = Ledger(pathlib.Path(sys.argv[1]))
ledger.begin([CallIdentity(key="a", trait_id="t", describer="d", model="m", prompt="p")], {})
os.kill(os.getpid(), signal.SIGKILL)
"""
    path = tmp_path / "l.sqlite"
    assert subprocess.run([sys.executable, "-c", code, path]).returncode == -9
    with Ledger(path) as ledger:
        assert ledger.counts()["pending"] == 1
        assert ledger.open_calls(["a"]) == {"a": 1}


def test_a_batch_is_written_whole_or_not_at_all(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.begin([identity("a"), identity("b")], {})
        with pytest.raises(sqlite3.IntegrityError):
            ledger.record([Outcome(key="a", state="ok"), Outcome(key="b", state="nonsense")])  # pyright: ignore
        assert ledger.counts()["pending"] == 2


def test_thousands_of_keys_are_looked_up_at_once(tmp_path):
    keys = [f"{i:05}" for i in range(2500)]
    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.begin([identity(key) for key in keys], {key: {"n": 1} for key in keys})
        ledger.record([Outcome(key=key, state="ok") for key in keys[::2]])
        assert set(ledger.open_calls(keys)) == set(keys[1::2])
        assert len(ledger.entries(keys)) == len(ledger.measurements(keys)) == 2500


def test_shared_calls_are_remembered_for_a_session_only(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.share([("t1", "k"), ("t2", "k")])
        assert ledger.shared(["t1", "t2", "t3"]) == {"t1": "k", "t2": "k"}
    with Ledger(tmp_path / "l.sqlite") as ledger:
        assert ledger.shared(["t1"]) == {}


def test_a_file_that_is_no_ledger_is_left_alone(tmp_path):
    path = tmp_path / "l.sqlite"
    path.write_bytes(b"something else" * 100)
    with pytest.raises(StoreError, match="move it away"):
        Ledger(path)
    assert path.read_bytes() == b"something else" * 100


def test_the_key_depends_on_every_determinant_and_not_on_their_order():
    key = call_key(model="m", image="i", box=(1.0, 2.0))
    assert key == call_key(box=(1.0, 2.0), image="i", model="m")
    assert call_key(model="n", image="i", box=(1.0, 2.0)) != key
    assert call_key(model="m", image="i", box=(1.0, 2.5)) != key
