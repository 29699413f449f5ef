import sqlite3
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis.strategies import lists, sampled_from

from sae_traits.errors import StoreError
from sae_traits.traits.ledger import MAX_ATTEMPTS, CallIdentity, Ledger, LedgerEntry, Outcome, call_key


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
        assert ledger.entries(["a"]).get("a") == LedgerEntry(
            key="a", trait_id="t", n_images=3, describer="d", model="m@1", prompt="p", state="ok", attempts=1, **said
        )
        assert [e.key for e in ledger] == ["a", "b"]
        assert Counter(call.state for call in ledger) == {"ok": 1, "failed": 1}
        assert ledger.entries(["c"]).get("c") is None
        assert ledger.measurements(["region", "other"]) == {"region": {"length_px": 2.5}}


def test_a_finished_key_is_never_asked_again_and_a_failed_one_only_so_often(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        attempt(ledger, "good")
        attempt(ledger, "bad", "invalid")
        assert ledger.open_calls(["good", "bad", "new"]) == {"bad": 1, "new": 0}
        for _ in range(MAX_ATTEMPTS - 1):
            attempt(ledger, "bad", "invalid")
        assert ledger.open_calls(["good", "bad", "new"]) == {"new": 0}
        bad = ledger.entries(["bad"]).get("bad")
        assert bad is not None
        assert not bad.is_open
        assert bad.attempts == MAX_ATTEMPTS


def test_damaged_answers_and_measurements_are_left_out_named_and_dropped(tmp_path, caplog):
    path = tmp_path / "l.sqlite"
    with Ledger(path) as ledger:
        for key in ("text", "state", "renamed", "kept"):
            attempt(ledger, key, raw="It is blue.", description={"text": "It is blue."}, usage={"tokens": 5})
        ledger.begin([identity("waiting")], {"region": {"length_px": 2.5}, "other": {"length_px": 1.0}})
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE describer_calls SET description = '{}' WHERE key = 'text'")
        connection.execute("UPDATE describer_calls SET state = 'failed' WHERE key = 'state'")
        connection.execute("UPDATE describer_calls SET key = 'renbmed' WHERE key = 'renamed'")
        connection.execute("UPDATE measurements SET measurement = replace(measurement, '2.5', '3.5')")
    connection.close()
    with Ledger(path) as ledger:
        assert [call.key for call in ledger] == ["kept", "waiting"]
        assert f"warning: 3 entries of {path} are damaged" in caplog.text
        ledger.drop_damaged()
        assert ledger.open_calls(["text", "state", "renamed", "kept", "waiting"]).keys() == {
            "text", "state", "renamed", "waiting"
        }  # fmt: skip
        assert ledger.measurements(["region", "other"]) == {"other": {"length_px": 1.0}}
        caplog.clear()
        attempt(ledger, "text")
        ledger.drop_damaged()
        assert [call.key for call in ledger] == ["kept", "text", "waiting"]
    assert caplog.text == ""


def test_an_answer_without_its_measurement_is_dropped_where_both_are_made_together(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.begin([identity("a"), identity("b")], {"region of a": {"length_px": 2.5}})
        ledger.record([Outcome(key=key, state="ok") for key in ("a", "b")])
        ledger.plan([("1", "a", "region of a"), ("2", "b", "region of b")])
        ledger.drop_unmeasured()
        assert [call.key for call in ledger] == ["a"]


def test_what_a_version_wrote_that_kept_no_hashes_is_taken_as_it_is(tmp_path, caplog):
    path = tmp_path / "l.sqlite"
    with Ledger(path) as ledger:
        attempt(ledger)
        ledger.begin([], {"region": {"length_px": 2.5}})
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE digests")
        connection.execute("PRAGMA user_version = 0")
    connection.close()
    with Ledger(path) as ledger:
        ledger.drop_damaged()
        assert [call.key for call in ledger] == ["a"]
        assert ledger.measurements(["region"])
    assert caplog.text == ""


def test_usage_and_seconds_of_all_attempts_add_up(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        attempt(ledger, state="invalid", raw="?", usage={"prompt": 10, "answer": 2}, seconds=1.0, error="no JSON")
        attempt(ledger, state="ok", raw="{}", usage={"prompt": 10, "answer": 5}, seconds=2.0, description={"text": "A"})
        entry = ledger.entries(["a"]).get("a")
    assert entry is not None
    assert (entry.usage, entry.seconds, entry.attempts) == ({"prompt": 20, "answer": 7}, 3.0, 2)
    assert (entry.state, entry.raw, entry.error) == ("ok", "{}", None)


@settings(deadline=None)
@given(kinds=lists(sampled_from(["killed", "failed", "invalid"]), max_size=6))
def test_attempts_count_what_came_of_them_and_nothing_that_was_cut_short(tmp_path_factory, kinds):
    with Ledger(tmp_path_factory.mktemp("ledger") / "l.sqlite") as ledger:
        for kind in kinds:
            ledger.begin([identity()], {})
            if kind != "killed":
                ledger.record([Outcome(key="a", state=kind)])
        sent = sum(kind != "killed" for kind in kinds)
        is_open = sent < MAX_ATTEMPTS or kinds[-1] == "killed"
        assert ledger.open_calls(["a"]) == ({"a": sent} if is_open else {})
        entry = ledger.entries(["a"]).get("a")
        assert entry is None if not kinds else entry is not None and entry.attempts == sent


def test_a_call_that_is_under_way_when_its_process_is_killed_has_not_been_answered(tmp_path):
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
        assert Counter(call.state for call in ledger)["pending"] == 1
        assert ledger.open_calls(["a"]) == {"a": 0}


def test_a_batch_is_written_whole_or_not_at_all(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.begin([identity("a"), identity("b")], {})
        with pytest.raises(sqlite3.IntegrityError):
            ledger.record([Outcome(key="a", state="ok"), Outcome(key="b", state="nonsense")])  # pyright: ignore
        assert Counter(call.state for call in ledger)["pending"] == 2


def test_thousands_of_keys_are_looked_up_at_once(tmp_path):
    keys = [f"{i:05}" for i in range(2500)]
    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.begin([identity(key) for key in keys], {key: {"n": 1} for key in keys})
        ledger.record([Outcome(key=key, state="ok") for key in keys[::2]])
        assert set(ledger.open_calls(keys)) == set(keys[1::2])
        assert len(ledger.entries(keys)) == len(ledger.measurements(keys)) == 2500


def test_what_is_planned_is_remembered_for_a_session_only(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.plan([("t1", "k", "r1"), ("t2", "k", "r2")])
        assert ledger.planned(["t1", "t2", "t3"]) == {"t1": ("k", "r1"), "t2": ("k", "r2")}
    with Ledger(tmp_path / "l.sqlite") as ledger:
        assert ledger.planned(["t1"]) == {}


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


HOLD = """
import pathlib, sys, time
from sae_traits.traits.ledger import Ledger
with Ledger(pathlib.Path(sys.argv[1])) as ledger, ledger.asking():
    print("asking", flush=True)
    time.sleep(60)
"""


def test_two_processes_do_not_ask_for_one_ledger_but_may_read_it(tmp_path):
    path = tmp_path / "l.sqlite"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"asking\n"
        with Ledger(path) as ledger:
            assert ledger.open_calls(["a"]) == {"a": 0}
            with pytest.raises(StoreError, match="another process is asking"), ledger.asking():
                raise AssertionError("two processes ask at once")
            holder.kill()
            holder.wait()
            with ledger.asking():  # a killed process leaves no lock behind
                attempt(ledger)
    finally:
        holder.kill()
        holder.communicate()


def test_a_ledger_of_another_version_is_left_alone(tmp_path):
    path = tmp_path / "l.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE describer_calls (key TEXT PRIMARY KEY, answer TEXT)")
    connection.close()
    with pytest.raises(StoreError, match=r"another version of sae-traits.* key, answer, not key, trait_id"):
        Ledger(path)


def test_calls_of_an_earlier_prompt_stay_and_are_not_taken_for_those_of_the_present_one(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.begin([identity("old", prompt="region-0")], {})
        ledger.record([Outcome(key="old", state="ok", raw="{}")])
        assert ledger.open_calls(["new"]) == {"new": 0}
        attempt(ledger, "new")
        assert {(entry.key, entry.prompt) for entry in ledger} == {("old", "region-0"), ("new", "p")}


def test_a_ledger_that_is_damaged_in_the_middle_is_one_clear_error(tmp_path):
    path = tmp_path / "l.sqlite"
    keys = [f"{i:064}" for i in range(2000)]
    with Ledger(path) as ledger:
        ledger.begin([identity(key) for key in keys], {})
    content = bytearray(path.read_bytes())
    content[8 * 4096 : -4096] = b"\xff" * len(content[8 * 4096 : -4096])
    path.write_bytes(content)
    with Ledger(path) as ledger, pytest.raises(StoreError, match=r"cannot read the ledger .*restore it"):
        list(ledger)


FULL_DISK = """
import pathlib, resource, signal, sys
from sae_traits.errors import StoreError
from sae_traits.traits.ledger import CallIdentity, Ledger, Outcome
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
with Ledger(pathlib.Path(sys.argv[1])) as ledger:
    try:
        for number in range(1000):
            ledger.begin([CallIdentity(key=f"{number:04}", trait_id="t", describer="d", model="m", prompt="p")], {})
            ledger.record([Outcome(key=f"{number:04}", state="ok", raw="x" * 2000)])
    except StoreError as error:
        print(number, error)
"""


def test_a_full_disk_is_one_clear_error_and_what_was_answered_is_kept(tmp_path):
    path = tmp_path / "l.sqlite"
    found = subprocess.run([sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True, check=True)
    n_kept, message = found.stdout.split(" ", 1)
    assert "free some space" in message
    with Ledger(path) as ledger:
        assert int(n_kept) - 1 <= Counter(call.state for call in ledger)["ok"] <= int(n_kept)
        assert Counter(call.state for call in ledger)["ok"] >= 5
        attempt(ledger, "after")


def test_a_ledger_takes_over_the_answers_of_another_and_keeps_its_own(tmp_path):
    with Ledger(tmp_path / "own.sqlite") as own, Ledger(tmp_path / "other.sqlite") as other:
        attempt(own, "both", raw="own")
        attempt(own, "failed here", "failed")
        for key in ("both", "failed here", "there"):
            attempt(other, key, raw="other")
        other.begin([identity("under way")], {"region": {"length_px": 2.5}})
        for _ in range(2):
            own.take_over(tmp_path / "other.sqlite")
        assert {entry.key: entry.raw for entry in own} == {"both": "own", "failed here": "other", "there": "other"}
        assert own.measurements(["region"]) == {"region": {"length_px": 2.5}}
        own.drop_damaged()
        assert own.open_calls(["both", "failed here", "there", "under way"]) == {"under way": 0}
        assert len(own.measurements(["region"])) == 1


def test_what_attempts_took_adds_up_over_ledgers_that_go_on_with_each_other(tmp_path):
    """A call failed in the run, and then in the shard that it falls to; another shard only knows of it."""
    run, shard, another = (tmp_path / f"{name}.sqlite" for name in ("run", "shard", "another"))
    took = {"usage": {"tokens": 5}, "seconds": 1.5}
    with Ledger(run) as ledger:
        attempt(ledger, "in vain", "failed", **took)
        attempt(ledger, "at last", "invalid", **took)
        attempt(ledger, "answered", **took)
    with Ledger(run, read_only=True) as former, Ledger(shard) as own, Ledger(another) as other:
        for ledger in (own, own, other):
            ledger.go_on_with(former)
        assert own.open_calls(["in vain", "at last", "answered"]) == {"in vain": 1, "at last": 1, "answered": 0}
        attempt(own, "in vain", "failed", **took)
        attempt(own, "at last", **took)
        own.go_on_with(former)
    with Ledger(run) as ledger:
        for path in (shard, another, shard, another):
            ledger.take_over(path)
        ledger.drop_damaged()
        assert {entry.key: (entry.state, entry.attempts, entry.usage, entry.seconds) for entry in ledger} == {
            "in vain": ("failed", 2, {"tokens": 10}, 3.0),
            "at last": ("ok", 2, {"tokens": 10}, 3.0),
            "answered": ("ok", 1, {"tokens": 5}, 1.5),
        }


def test_an_answer_is_not_taken_for_damaged_where_another_ledger_was_stopped_while_it_asked_again(tmp_path, caplog):
    with Ledger(tmp_path / "own.sqlite") as own, Ledger(tmp_path / "other.sqlite") as other:
        attempt(own, "unusable", "invalid", raw="nonsense")
        attempt(other, "unusable", "failed")
        other.begin([identity("unusable")], {})
        own.take_over(tmp_path / "other.sqlite")
        own.drop_damaged()
        assert own.entries(["unusable"])["unusable"].raw == "nonsense"
        assert own.open_calls(["unusable"]) == {"unusable": 1}
    assert "damaged" not in caplog.text


def test_of_what_is_planned_is_counted_what_is_left_to_ask(tmp_path):
    with Ledger(tmp_path / "own.sqlite") as ledger:
        attempt(ledger, "a")
        ledger.plan([("t1", "a", "r1"), ("t2", "b", "r2"), ("t3", "b", "r3")])
        assert ledger.count_open_planned() == 1


def test_a_ledger_that_is_only_read_has_its_answers(tmp_path):
    with Ledger(tmp_path / "own.sqlite") as ledger:
        attempt(ledger, "a")
    with Ledger(tmp_path / "own.sqlite", read_only=True) as ledger:
        assert ledger.open_calls(["a", "b"]) == {"b": 0}
