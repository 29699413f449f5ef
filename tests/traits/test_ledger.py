import sqlite3

import pytest

from sae_traits.traits.ledger import MAXIMUM_ATTEMPTS, Ledger, LedgerEntry, call_key


def entry(key="a", state="ok", **arguments):
    defaults = {"trait_id": "t", "describer": "d", "model": "m@1", "prompt": "p", "raw": "{}"}
    return LedgerEntry(key=key, state=state, **defaults | arguments)


def test_what_is_recorded_is_there_after_reopening(tmp_path):
    path = tmp_path / "traits" / "ledger.sqlite"
    recorded = entry(description={"text": "Ein grüner Flügel"}, usage={"tokens": 3}, measurement={"a": 1.0})
    with Ledger(path) as ledger:
        ledger.record([recorded, entry("b", "failed", error="timeout")])
    with Ledger(path) as ledger:
        assert ledger.get("a") == recorded
        assert [e.key for e in ledger] == ["a", "b"]
        assert ledger.counts() == {"ok": 1, "invalid": 0, "failed": 1}
        assert ledger.get("c") is None


def test_a_finished_key_is_never_asked_again_and_a_failed_one_only_so_often(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.record([entry("good"), entry("bad", "invalid")])
        assert ledger.finished(["good", "bad", "new"]) == {"good"}
        for _ in range(MAXIMUM_ATTEMPTS - 1):
            ledger.record([entry("bad", "invalid")])
        assert ledger.finished(["good", "bad", "new"]) == {"good", "bad"}
        bad = ledger.get("bad")
        assert bad is not None
        assert bad.attempts == MAXIMUM_ATTEMPTS


def test_a_batch_is_written_whole_or_not_at_all(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        with pytest.raises(sqlite3.IntegrityError):
            ledger.record([entry("a"), entry("b", "nonsense")])
        assert list(ledger) == []


def test_the_key_depends_on_every_determinant_and_not_on_their_order():
    key = call_key(model="m", image="i", box=(1.0, 2.0))
    assert key == call_key(box=(1.0, 2.0), image="i", model="m")
    assert call_key(model="n", image="i", box=(1.0, 2.0)) != key
    assert call_key(model="m", image="i", box=(1.0, 2.5)) != key
