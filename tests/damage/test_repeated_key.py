"""A server that repeats its key in every answer and error, and one that answers anything but the schema."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from damage.matrix import Bench
from describer_server.running import RunningServer

pytestmark = pytest.mark.slow

KEY = "sk-key-of-the-museum-4711"
DEFAULT_LIMIT = 30
"""Of --max-consecutive-unusable."""


def completion(content: str | None, **message: str) -> dict[str, object]:
    whole = {"role": "assistant", "content": content, **message}
    return {"choices": [{"index": 0, "message": whole, "finish_reason": "stop"}]}


def answer(text: str) -> str:
    return json.dumps({"is_background": False, "part": "wing", "attributes": [], "text": text})


def text_of(file: Path) -> str:
    """All that a file says: of tables and databases every cell."""
    if (file.suffix, file.read_bytes()[:4]) == (".parquet", b"PAR1") or file.read_bytes()[:4] == b"PAR1":
        return str(pq.read_table(file).to_pylist())
    if file.read_bytes()[:15] == b"SQLite format 3":
        with sqlite3.connect(file) as database:
            return "\n".join(database.iterdump())
    return file.read_bytes().decode("latin-1")


def places_of(key: str, folder: Path) -> list[Path]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert len(files) > 20
    return [file for file in files if key in text_of(file) or key[:14] in text_of(file)]


def annotate(made: Bench, server: RunningServer, model: str, *more: str):
    """Describe with that model; the command, and how many requests came."""
    words = ["annotate", made.run, "--describer", "server", "--describer-model", model, "--base-url", server.base_url]
    before = server.n_requests()
    done = made.forks.do(*words, "--in-flight", "1", *more, OPENAI_API_KEY=KEY)
    assert not done.has_traceback
    return done, server.n_requests() - before


def test_a_key_that_is_repeated_is_nowhere_in_the_run_and_nowhere_on_the_hub(made: Bench, server: RunningServer):
    server.change(reply=completion(answer(f"A wing with {KEY} on it."), refusal="", reasoning_content=f"hm, {KEY}"))
    done, n_requests = annotate(made, server, "repeating")
    assert (done.code, n_requests > 10) == (0, True), done.err
    assert "A wing with" in text_of(made.run / "traits" / "traits.parquet")
    said = done.out + done.err
    done = made.forks.do(*made.words("publish"), OPENAI_API_KEY=KEY)
    assert done.code == 0, done.err
    said += done.out + done.err
    for body in ({"error": {"message": f"{'x' * 290} {KEY}"}}, completion(None, refusal=f"not with {KEY}")):
        server.change(reply=body)
        said += annotate(made, server, f"refusing {len(said)}")[0].err
    server.change(reply=None, key="another")
    said += annotate(made, server, "locked")[0].err
    server.change(key=None)
    assert KEY not in said
    assert places_of(KEY, made.run) == []
    assert places_of(KEY, made.hub.store.folder) == []


@pytest.mark.parametrize(
    "body",
    [completion("I am sorry, I cannot see a picture."), completion('{"text": 3}'), completion("[]"), completion("")],
    ids=["prose", "other schema", "list", "empty"],
)
def test_a_server_that_answers_anything_but_the_schema_is_asked_some_times_and_no_more(
    made: Bench, server: RunningServer, body: dict[str, object]
):
    server.change(reply=body)
    done, n_requests = annotate(made, server, "chatty")
    assert done.code in (1, 3), done.err
    assert n_requests == DEFAULT_LIMIT
    assert "in a row could not be used" in done.err
