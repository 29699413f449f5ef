"""The describer `server` against a real HTTP server that misbehaves: nothing is lost, nothing is asked twice."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from describer_server import many
from describer_server.many import TRAITS, ManyCandidates
from describer_server.running import describer_server

from sae_traits.config.describer import VLLM, Server, Transformers
from sae_traits.config.tree import with_absolute_paths, with_public_names
from sae_traits.describers import make_describer
from sae_traits.describers.patience import MAX_TRIES
from sae_traits.describers.server import N_PROBES
from sae_traits.errors import ConfigError, DescriberError
from sae_traits.traits.annotate import describe_candidates, export_traits
from sae_traits.traits.ledger import MAX_ATTEMPTS, Ledger
from sae_traits.traits.table import read_traits


def options(server, **given):
    return {"model": "tiny", "base_url": server.base_url} | given


def annotate(folder, server, n_images=4, **given):
    """The annotation, the ledger's calls, and the server's statistics."""
    config = Server(**options(server, **{"workers": 1} | given))
    plan, describer = ManyCandidates(folder, n_images), make_describer(config)
    files = {"traits_file": folder / "traits.parquet", "latents_file": folder / "latents.parquet"}
    with Ledger(folder / "ledger.sqlite") as ledger:
        describe_candidates(plan, describer, ledger, workers=config.workers)
        annotation = export_traits(plan, ledger, **files)
        return SimpleNamespace(annotation=annotation, calls=list(ledger), statistics=server.statistics())


@pytest.fixture(autouse=True)
def _messages(caplog):
    caplog.set_level("INFO", logger="sae_traits")


@pytest.fixture(scope="module")
def obedient():
    with describer_server() as server:
        yield server


def test_answers_become_traits_with_usage_and_a_second_run_asks_nothing(tmp_path, obedient):
    before = obedient.statistics()["n_requests"]
    outcome = annotate(tmp_path, obedient)
    assert outcome.statistics["n_requests"] - before == 4 * TRAITS
    assert {call.state for call in outcome.calls} == {"ok"}
    assert all(call.usage == {"completion_tokens": 60, "prompt_tokens": 700} for call in outcome.calls)
    assert all(call.seconds > 0 for call in outcome.calls)
    traits = list(read_traits(tmp_path / "traits.parquet"))
    assert len(traits) == outcome.annotation.n_traits == 4 * TRAITS - outcome.annotation.n_background
    assert all(len(trait.description.attributes) == 2 and trait.measurement.length_px > 1 for trait in traits)
    assert {(t.describer, t.describer_model) for t in traits} == {("server", "tiny@unstated")}
    assert all(t.prompt.startswith("region-1 sha256:") for t in traits)
    written = (tmp_path / "traits.parquet").read_bytes()
    again = annotate(tmp_path, obedient)
    assert again.statistics["n_requests"] == outcome.statistics["n_requests"]
    assert again.statistics["n_probes"] == outcome.statistics["n_probes"]
    assert (tmp_path / "traits.parquet").read_bytes() == written


@pytest.mark.slow
def test_five_hundred_candidates_with_ten_percent_faults_end_answered_or_quarantined(tmp_path):
    faults = dict.fromkeys(("error", "busy", "truncated", "malformed", "garbage", "dropped"), 0.1 / 6)
    with describer_server(faults=faults, latency=0.02, retry_after=0.1) as server:
        outcome = annotate(tmp_path, server, n_images=500 // TRAITS, workers=2)
    assert len(outcome.calls) == outcome.statistics["n_bodies"] == 500
    assert all(call.state == "ok" or (call.attempts == MAX_ATTEMPTS and call.error) for call in outcome.calls)
    assert outcome.annotation.n_open == 0
    assert sum(call.state == "ok" for call in outcome.calls) >= 498
    assert outcome.statistics["again_after_ok"] == 0
    assert set(outcome.statistics["outcomes"]) == {"ok", *faults}
    assert 500 * 1.05 < outcome.statistics["n_requests"] < 500 * 1.25


def test_a_killed_run_goes_on_and_asks_nothing_that_was_answered(tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with describer_server(latency=0.1) as server:
        arguments = [str(tmp_path), "40", json.dumps(options(server, in_flight=8) | {"class": "Server"})]
        command = [sys.executable, many.__file__, *arguments]
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while server.n_requests() < 60 and time.monotonic() < deadline:
            time.sleep(0.05)
        workers = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
        process.kill()
        process.wait()
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            answered = {call.key for call in ledger if call.state == "ok"}
            under_way = {call.key for call in ledger if call.state == "pending"}
        assert 40 < len(answered) < 150
        assert 1 <= len(under_way) <= 8
        before = server.requests()
        outcome = annotate(tmp_path, server, n_images=40, in_flight=8)
        after = server.requests()
    assert outcome.annotation.n_open == 0
    assert {call.attempts for call in outcome.calls} == {1}
    assert all(after[key] == before[key] == ["ok"] for key in answered)
    # a call is pending a moment before it is sent, so the kill may have come between
    assert 200 <= outcome.statistics["n_requests"] <= 200 + len(under_way)
    assert len(list(read_traits(tmp_path / "traits.parquet"))) == 200 - outcome.annotation.n_background
    assert len(workers) >= 2
    assert not any(map(_is_alive, workers)), "a killed run leaves its workers behind"


@pytest.mark.slow
def test_calls_in_flight_at_three_kills_are_asked_all_the_same(tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with describer_server(stall=60.0, faults={"stalled": 1.0}) as server:
        given = options(server, in_flight=5, workers=1)
        command = [sys.executable, many.__file__, str(tmp_path), "1", json.dumps(given | {"class": "Server"})]
        for n_kills in range(1, 4):
            process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
            deadline = time.monotonic() + 120
            while server.n_requests() < n_kills * TRAITS and time.monotonic() < deadline:
                time.sleep(0.05)
            process.kill()
            process.wait()
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            assert {(call.state, call.attempts) for call in ledger} == {("pending", 0)}
            assert len(ledger.open_calls(call.key for call in ledger)) == TRAITS
        server.change(faults={})
        outcome = annotate(tmp_path, server, n_images=1)
    assert {(call.state, call.attempts) for call in outcome.calls} == {("ok", 1)}


def test_calls_that_wait_for_an_answer_are_open_and_not_failed(tmp_path):
    with describer_server(faults={"error": 1.0}) as server:
        outcome = annotate(tmp_path, server, n_images=1, max_consecutive_errors=3, in_flight=1)
    assert {call.state for call in outcome.calls} == {"pending"}
    assert (outcome.annotation.n_open, outcome.annotation.n_failed, outcome.annotation.n_invalid) == (TRAITS, 0, 0)


def _is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_server_that_breaks_down_stops_the_run_with_everything_kept_and_open(tmp_path, caplog):
    with describer_server(faults={"error": 1.0}) as server:
        stopped = annotate(tmp_path, server, max_consecutive_errors=6, in_flight=4)
        assert " errors and no answer between them, the last one: 500 - something broke" in caplog.text
        assert stopped.annotation.n_open == 4 * TRAITS
        assert stopped.statistics["n_requests"] <= 4 * MAX_TRIES + N_PROBES
        assert {call.attempts for call in stopped.calls} == {0}
        server.change(faults={})
        mended = annotate(tmp_path, server, max_consecutive_errors=6, in_flight=4)
    assert mended.annotation.n_open == mended.annotation.n_failed == 0
    assert mended.annotation.n_traits + mended.annotation.n_background == 4 * TRAITS


def test_a_server_that_is_away_for_a_moment_stops_nothing_however_many_calls_are_in_flight(tmp_path):
    with describer_server(latency=0.05) as server:

        def go_away():
            while server.statistics()["n_requests"] < 40:
                time.sleep(0.01)
            server.change(faults={"error": 1.0})
            time.sleep(0.8)
            server.change(faults={})

        trouble = threading.Thread(target=go_away)
        trouble.start()
        outcome = annotate(tmp_path, server, n_images=80, in_flight=64)
        trouble.join()
    assert outcome.statistics["outcomes"]["error"] > 40
    assert {call.state for call in outcome.calls} == {"ok"}


def test_a_server_that_is_not_there_is_an_error_from_the_start(tmp_path):
    with describer_server(down=True) as server, pytest.raises(DescriberError, match="503"):
        annotate(tmp_path, server, max_consecutive_errors=2)
    with pytest.raises(DescriberError, match=r"Connection error|no answer"):
        annotate(tmp_path, server, max_consecutive_errors=2)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert list(ledger) == []


def test_a_wrong_address_is_named(tmp_path, obedient):
    with pytest.raises(DescriberError, match=r"--base-url, which ends in /v1"):
        annotate(tmp_path, obedient, base_url=obedient.url)


def test_a_server_that_ignores_the_schema_is_found_out_and_its_answers_are_read_all_the_same(tmp_path, caplog):
    with describer_server(schema="ignored") as server:
        outcome = annotate(tmp_path, server)
    assert caplog.text.count("does not enforce the JSON schema") == 1
    assert {call.state for call in outcome.calls} == {"ok"}
    assert {a.name for t in read_traits(tmp_path / "traits.parquet") for a in t.description.attributes} == {"colour"}


def test_a_server_that_refuses_the_schema_is_asked_without_it(tmp_path, caplog):
    with describer_server(schema="refused") as server:
        outcome = annotate(tmp_path, server)
    assert "does not enforce the JSON schema" in caplog.text
    assert {call.state for call in outcome.calls} == {"ok"}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("truncated", "cut off after 256 tokens"),
        ("malformed", "there is no JSON object"),
        ("surrogate", "JSON object"),
    ],
)
def test_an_answer_that_stays_unusable_is_quarantined_with_its_reason(tmp_path, fault, reason):
    with describer_server(faults={fault: 1.0}) as server:
        outcome = annotate(tmp_path, server, n_images=1)
    assert {call.state for call in outcome.calls} == {"invalid"}
    assert all(call.attempts == MAX_ATTEMPTS and reason in str(call.error) and call.raw for call in outcome.calls)
    assert all(call.usage["prompt_tokens"] == 700 * MAX_ATTEMPTS for call in outcome.calls)
    assert (outcome.annotation.n_invalid, outcome.annotation.n_open, outcome.annotation.n_traits) == (TRAITS, 0, 0)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("refused", "the model refuses to answer: I cannot help with that."),
        ("filtered", "withheld by the server's content filter"),
    ],
)
def test_an_answer_that_is_withheld_is_invalid_and_the_ledger_says_why(tmp_path, fault, reason):
    with describer_server(faults={fault: 1.0}) as server:
        outcome = annotate(tmp_path, server, n_images=1)
    assert {(call.state, call.attempts) for call in outcome.calls} == {("invalid", MAX_ATTEMPTS)}
    assert all(reason in str(call.error) and call.usage["completion_tokens"] for call in outcome.calls)
    assert outcome.annotation.n_open == 0


@pytest.mark.parametrize("fault", ["html", "empty", "hollow"])
def test_a_success_that_is_no_completion_is_sent_again_and_at_last_stops_the_run(tmp_path, fault, caplog):
    with describer_server(faults={fault: 0.4}) as server:
        outcome = annotate(tmp_path, server, n_images=2, in_flight=2)
        assert outcome.statistics["outcomes"][fault] > 0
        assert {call.state for call in outcome.calls} == {"ok"}
        server.change(faults={fault: 1.0})
        stopped = annotate(tmp_path / "stopped", server, n_images=1, in_flight=1, max_consecutive_errors=2)
    assert {call.attempts for call in stopped.calls} == {0}
    assert stopped.annotation.n_open == TRAITS
    assert "2 errors and no answer between them, the last one: the reply is not a chat completion" in (caplog.text)


@pytest.mark.parametrize(
    ("refused", "sent"),
    [
        (["max_tokens"], {"max_completion_tokens", "temperature"}),
        (["temperature"], {"max_tokens"}),
        (["max_tokens", "temperature"], {"max_completion_tokens"}),
    ],
)
def test_parameters_that_a_model_refuses_are_sent_otherwise_or_not_at_all(tmp_path, refused, sent, caplog):
    with describer_server(refused_parameters=refused) as server:
        outcome = annotate(tmp_path, server)
    assert {call.state for call in outcome.calls} == {"ok"}
    assert {call.attempts for call in outcome.calls} == {1}
    assert set(outcome.statistics["parameters"]) == sent | {"messages", "model", "response_format"}
    # The probe finds out: no call of the ledger is wasted on it.
    assert outcome.statistics["n_requests"] == len(outcome.calls)
    assert caplog.text.count("takes no --temperature") == ("temperature" in refused)


def test_a_parameter_that_cannot_be_replaced_is_an_error_that_names_it(tmp_path):
    refused = ["max_tokens", "max_completion_tokens"]
    with describer_server(refused_parameters=refused) as server, pytest.raises(DescriberError, match="max_completion"):
        annotate(tmp_path, server)


def test_a_server_that_asks_for_time_gets_it(tmp_path):
    with describer_server(faults={"busy": 0.3}, retry_after=1.0) as server:
        outcome = annotate(tmp_path, server)
    assert {call.state for call in outcome.calls} == {"ok"}
    assert {call.attempts for call in outcome.calls} == {1}
    assert outcome.statistics["outcomes"]["busy"] > 1
    assert outcome.statistics["soonest_after_busy"] >= 1.0


def test_a_reply_that_comes_too_late_is_not_waited_for(tmp_path):
    with describer_server(faults={"stalled": 0.3}) as server:
        started = time.monotonic()
        outcome = annotate(tmp_path, server, call_timeout=0.7)
    assert time.monotonic() - started < 25
    assert {call.state for call in outcome.calls} == {"ok"}
    assert outcome.statistics["outcomes"]["stalled"] > 2


def test_no_more_calls_are_in_flight_than_were_asked_for(tmp_path):
    with describer_server(latency=0.2) as server:
        outcome = annotate(tmp_path, server, in_flight=3)
    assert outcome.statistics["most_in_flight"] == 3


@pytest.mark.parametrize(
    "address",
    [
        *("", "http://", "localhost:8000/v1", "htp://localhost:8000/v1", "http://localhost:80a/v1", "http://[::1/v1"),
        *("http://localhost:8000/v1\n", "http://local host/v1", "http://me:pass-word@gpu:port/v1"),
    ],
)
def test_what_is_no_address_is_refused_at_once(address):
    with pytest.raises(ConfigError, match="--base-url is the address of a server, such as http") as refused:
        Server(model="tiny", base_url=address)
    assert "pass-word" not in str(refused.value)


def test_a_key_that_no_request_can_carry_is_told_and_blanks_around_one_do_not_matter(tmp_path, monkeypatch):
    with describer_server(key="secret-of-the-museum") as server:
        monkeypatch.setenv("OPENAI_API_KEY", "secret-of\nthe-museum")
        with pytest.raises(DescriberError, match="OPENAI_API_KEY has a line break or a letter"):
            annotate(tmp_path, server)
        monkeypatch.setenv("OPENAI_API_KEY", "secret-of-the-muséum")
        with pytest.raises(DescriberError, match="OPENAI_API_KEY has a line break or a letter"):
            annotate(tmp_path, server)
        monkeypatch.setenv("OPENAI_API_KEY", " secret-of-the-museum\n")
        assert annotate(tmp_path, server).annotation.n_open == 0


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1080", "gopher://127.0.0.1", "http://127.0.0.1:port"])
def test_a_proxy_that_cannot_be_used_is_told_in_one_line(tmp_path, obedient, monkeypatch, proxy):
    monkeypatch.setenv("all_proxy", proxy)
    with pytest.raises(DescriberError, match=r"the proxy .* cannot be used"):
        annotate(tmp_path, obedient)


def test_the_name_of_a_model_of_a_server_is_no_folder_of_this_machine(tmp_path, monkeypatch):
    (tmp_path / "org" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    config = with_absolute_paths(Server(model="org/tiny"))
    assert config.model == "org/tiny"
    assert make_describer(config).model == "org/tiny@unstated"
    assert with_public_names(Server(model="/models/tiny")).model == "tiny"
    for in_process in (VLLM, Transformers):
        assert with_absolute_paths(in_process(model="org/tiny")).model == str(tmp_path / "org" / "tiny")


def test_the_key_is_taken_from_the_environment_and_left_there(tmp_path, monkeypatch, caplog):
    with describer_server(key="secret-of-the-museum") as server:
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        with pytest.raises(DescriberError, match="set OPENAI_API_KEY"):
            annotate(tmp_path, server)
        monkeypatch.setenv("OPENAI_API_KEY", "mistaken-key-of-a-visitor")
        with_password = server.base_url.replace("//", "//visitor:pass-word@")
        with pytest.raises(DescriberError, match=r"refuses the key") as refused:
            annotate(tmp_path, server, base_url=with_password)
        assert "mistaken-key" not in str(refused.value)
        assert "pass-word" not in str(refused.value)
        monkeypatch.setenv("OPENAI_API_KEY", "secret-of-the-museum")
        outcome = annotate(tmp_path, server)
    assert outcome.annotation.n_open == 0
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and b"secret-of" in file.read_bytes()]
    assert "secret-of" not in caplog.text


def test_images_share_a_call_of_several_pictures(tmp_path, obedient):
    before = obedient.statistics()["n_requests"]
    outcome = annotate(tmp_path, obedient, n_images=20, images_per_description=3, show="both", name_species=True)
    # of each of five species one image is for testing and three are for training
    assert outcome.statistics["n_requests"] - before == 5 * TRAITS * 2
    assert sorted({call.n_images for call in outcome.calls}) == [1, 3]
    traits = list(read_traits(tmp_path / "traits.parquet"))
    assert len(traits) + outcome.annotation.n_background == 20 * TRAITS
    assert [t.candidate.image for t in traits] == sorted(t.candidate.image for t in traits)
    assert all(t.prompt.startswith("agreement-1 ") for t in traits)


SECRET = "sk-secret-of-the-museum"


def replies(tmp_path, server, body, caplog, **given):
    """What becomes of an annotation when every call gets this reply with success: calls, traits, messages."""
    server.change(reply=body)
    outcome = annotate(tmp_path, server, n_images=given.pop("n_images", 1), **given)
    return outcome, list(read_traits(tmp_path / "traits.parquet")), caplog.text


def completion(message, **choice):
    return {"choices": [{"index": 0, "message": {"role": "assistant"} | message, "finish_reason": "stop"} | choice]}


def answer(text="A wing."):
    return json.dumps({"is_background": False, "part": "wing", "attributes": [], "text": text})


@pytest.mark.parametrize(
    "message",
    [
        {"content": f"<think>{answer('A draft.')}</think>{answer()}"},
        {"content": f"{answer('A draft.')}</think>{answer()}"},
        {"content": [{"type": "thinking", "thinking": answer("A draft.")}, {"type": "text", "text": answer()}]},
        {"content": None, "reasoning_content": answer()},
        {"content": "", "reasoning": f" {answer()} "},
        {"content": answer(), "refusal": "", "reasoning": answer("A draft.")},
        {"content": [answer()]},
        {"content": [{"type": "reasoning", "text": answer("A draft.")}, {"type": "output_text", "text": answer()}]},
        {"content": json.loads(answer())},
    ],
)
def test_the_answer_is_found_in_other_places_of_a_reply(tmp_path, obedient, message, caplog):
    try:
        outcome, traits, _ = replies(tmp_path, obedient, completion(message), caplog)
    finally:
        obedient.change(reply=None)
    assert {call.state for call in outcome.calls} == {"ok"}
    assert {trait.description.text for trait in traits} == {"A wing."}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "No endpoints with pictures", "code": 404}}, "is not there.*No endpoints with pictures"),
        ({"detail": "Model is loading"}, "2 errors and no answer between them, the last one: Model is loading"),
        ({"error": "quota spent"}, "the last one: quota spent"),
        ({"error": {"type": "overloaded_error"}}, "the last one: .*overloaded_error"),
        ({"message": "Unauthorized", "choices": []}, "the last one: Unauthorized"),
        ({"choices": None}, "the last one: the reply is not a chat completion"),
        (completion({}, error={"message": "upstream broke", "code": 502}), "the last one: upstream broke"),
    ],
)
def test_an_error_in_a_reply_of_success_says_why(tmp_path, obedient, body, message, caplog):
    try:
        replies(tmp_path, obedient, body, caplog, max_consecutive_errors=2, in_flight=1)
    finally:
        obedient.change(reply=None)
    assert re.search(message, caplog.text)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"detail": [{"loc": ["body", "model"], "msg": "no such model"}]}, "422 - .*no such model"),
        ({"error": "pictures are not taken"}, "422 - pictures are not taken"),
        ([{"error": {"code": 422, "message": "no such field"}}], "422 - no such field"),
        ({"success": False, "errors": [{"message": "no such route"}]}, "422 - .*no such route"),
    ],
)
def test_an_error_keeps_the_words_of_servers_that_do_not_write_them_as_openai_does(
    tmp_path, obedient, body, message, caplog
):
    obedient.change(status=422)
    try:
        outcome, _, _ = replies(tmp_path, obedient, body, caplog)
    finally:
        obedient.change(reply=None, status=200)
    assert {call.state for call in outcome.calls} == {"failed"}
    assert all(re.search(message, str(call.error)) for call in outcome.calls)


@pytest.mark.parametrize("usage", [[], "free", {"prompt_tokens": "some"}, {"completion_tokens": 2.5}])
def test_an_answer_with_a_strange_bill_is_an_answer(tmp_path, obedient, usage, caplog):
    try:
        outcome, _, _ = replies(tmp_path, obedient, completion({"content": answer()}) | {"usage": usage}, caplog)
    finally:
        obedient.change(reply=None)
    assert {(call.state, len(call.usage)) for call in outcome.calls} == {("ok", 0)}


@pytest.mark.parametrize(
    ("ended", "reason"),
    [
        ("MAX_TOKENS", "cut off after 256 tokens; raise --max-tokens"),
        ("tool_calls", "empty, and ended as 'tool_calls'"),
    ],
)
def test_an_empty_answer_says_how_it_ended(tmp_path, obedient, ended, reason, caplog):
    try:
        outcome, _, _ = replies(tmp_path, obedient, completion({"content": None}, finish_reason=ended), caplog)
    finally:
        obedient.change(reply=None)
    assert all(call.state == "invalid" and reason in str(call.error) for call in outcome.calls)


def test_a_reply_of_reasoning_alone_says_so(tmp_path, obedient, caplog):
    body = completion({"content": None, "reasoning_content": f"Perhaps {answer('A draft.')}? No, "})
    try:
        outcome, traits, _ = replies(tmp_path, obedient, body, caplog)
    finally:
        obedient.change(reply=None)
    assert not traits
    assert all("--reasoning-parser" in str(call.error) and "A draft" in call.raw for call in outcome.calls)


def test_one_request_that_is_forbidden_fails_alone(tmp_path):
    with describer_server(faults={"forbidden": 0.3}) as server:
        outcome = annotate(tmp_path, server, n_images=4, in_flight=2)
    assert outcome.annotation.n_open == 0
    states = {call.state for call in outcome.calls}
    assert "ok" in states
    assert all("your input was flagged" in str(call.error) for call in outcome.calls if call.state == "failed")


def test_too_many_answers_in_a_row_that_cannot_be_used_stop_the_run_with_an_example(tmp_path, caplog):
    with describer_server(faults={"truncated": 1.0}) as server:
        stopped = annotate(tmp_path, server, n_images=4, in_flight=2, max_consecutive_unusable=7)
        assert stopped.statistics["n_requests"] in (7, 8)
        assert "7 answers in a row could not be used" in caplog.text or "8 answers in a row" in caplog.text
        assert "cut off after 256 tokens; raise --max-tokens (it begins" in caplog.text
        assert stopped.annotation.n_open == 4 * TRAITS - sum(c.attempts == MAX_ATTEMPTS for c in stopped.calls)
        assert 7 <= sum(call.attempts for call in stopped.calls) <= stopped.statistics["n_requests"]
        server.change(faults={"malformed": 0.5})
        mended = annotate(tmp_path, server, n_images=4, in_flight=1, max_consecutive_unusable=12)
    assert mended.annotation.n_open == 0


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "HF_TOKEN"])
def test_secrets_that_a_server_repeats_are_kept_nowhere(tmp_path, obedient, name, caplog, monkeypatch):
    monkeypatch.setenv(name, SECRET)
    split = SECRET[:4] + "\u202e" + SECRET[4:]
    escaped = "".join(f"\\u{ord(c):04x}" for c in SECRET)
    bodies = {
        "answer": completion({"content": answer(f"A wing with {SECRET} on it, {split}.")}),
        "escaped": completion({"content": answer("A wing: X.").replace("X", escaped)}),
        "invalid": completion({"content": f"Bearer {SECRET}"}),
        "refusal": completion({"content": SECRET, "refusal": f"not with {SECRET}"}),
        "reasoning": completion({"content": None, "reasoning_content": f"hm, {SECRET}"}),
        "error": {"error": {"message": f"{'x' * 290} {SECRET}"}},
    }
    try:
        for kind, body in bodies.items():
            replies(tmp_path / kind, obedient, body, caplog, max_consecutive_errors=2, in_flight=1)
    finally:
        obedient.change(reply=None)
    kept = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()) + caplog.text.encode()
    assert b"A wing with" in kept
    assert SECRET.encode() not in kept
    assert SECRET[:12].encode() not in kept
