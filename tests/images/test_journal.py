"""The journal of a stream: what a kill leaves, and where it goes on."""

from __future__ import annotations

import threading
import time

from sae_traits.images.journal import Journal


def test_a_stream_read_to_its_end_is_complete_with_all_records(tmp_path):
    first = Journal(tmp_path / "rows", seconds_between_checkpoints=0.0)
    assert first.resume() is None
    for number in range(5):
        first.write({"number": number, "text": "line\nbreak é"})
        first.checkpoint({"row": number, "state": lambda: {"shard": 1}})
    assert not first.is_complete
    first.finish()
    again = Journal(tmp_path / "rows")
    assert again.is_complete
    assert [record["number"] for record in again.records()] == list(range(5))


def test_after_a_kill_only_what_was_checkpointed_counts(tmp_path):
    first = Journal(tmp_path / "rows", seconds_between_checkpoints=0.0)
    first.resume()
    for number in range(3):
        first.write({"number": number})
    first.checkpoint({"row": 3, "state": {"shard": 0}})
    with first.records_file.open("ab") as file:
        file.write(b'{"number": 3}\n{"numb')  # written, but not yet counted
    second = Journal(tmp_path / "rows")
    assert not second.is_complete
    assert second.resume() == {"row": 3, "state": {"shard": 0}}
    second.write({"number": 3})
    second.finish()
    assert [record["number"] for record in Journal(tmp_path / "rows").records()] == [0, 1, 2, 3]


def test_functions_of_a_place_are_called_at_checkpoints_only(tmp_path):
    called = []
    seldom = Journal(tmp_path / "rows", seconds_between_checkpoints=1e9)
    seldom.resume()
    seldom.checkpoint({"state": lambda: called.append("too early")})
    assert not called
    assert not seldom.state_file.exists()
    always = Journal(tmp_path / "rows", seconds_between_checkpoints=0.0)
    always.checkpoint({"state": lambda: called.append("now")})
    assert called == ["now"]


def test_a_second_writer_waits_for_the_first_and_sees_what_it_wrote(tmp_path, caplog):
    caplog.set_level("INFO", logger="sae_traits")
    first, second = (Journal(tmp_path / "rows", seconds_between_checkpoints=0.0) for _ in range(2))
    found = []

    def write_second():
        with second.writing():
            found.append(second.is_complete)

    waiting = threading.Thread(target=write_second)
    with first.writing():
        first.resume()
        waiting.start()
        while "waiting until it is done" not in caplog.text:
            time.sleep(0.01)
        for number in range(5):
            first.write({"number": number})
            first.checkpoint({"row": number})
        first.finish()
        assert found == []
    waiting.join()
    assert found == [True]
    assert [record["number"] for record in second.records()] == list(range(5))
