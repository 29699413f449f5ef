"""Fetching images from a server that errs: each once, with patience, and with a reason where there is none."""

from __future__ import annotations

import hashlib
import json
import time
from functools import partial

import pytest
from web import photograph, running_web

from sae_traits.images import fetching
from sae_traits.images.fetching import LOG_FILE, MAX_BYTES, TRIES

fetch_images = partial(fetching.fetch_images, allow_private_addresses=True)


@pytest.fixture
def web():
    with running_web() as server:
        yield server


def test_images_are_written_whole_with_their_sha256_and_never_fetched_twice(web, tmp_path):
    def page(n):
        def answer(handler, _):
            time.sleep(0.05)
            handler.reply(200, photograph(n))

        return answer

    web.pages = {f"/{n}.jpg": page(n) for n in range(12)}
    urls = {f"ab/{n}.jpg": f"{web.url}/{n}.jpg" for n in range(12)}
    answers = fetch_images(urls, tmp_path, connections=3)
    assert set(answers) == set(urls)
    for n in range(12):
        assert (tmp_path / f"ab/{n}.jpg").read_bytes() == photograph(n)
        assert answers[f"ab/{n}.jpg"].sha256 == hashlib.sha256(photograph(n)).hexdigest()
    assert web.most_under_way == 3
    assert fetch_images(urls, tmp_path) == answers
    assert set(web.requests.values()) == {1}
    assert not list(tmp_path.rglob("*.partial"))


def test_what_was_lost_or_cut_short_on_disk_is_fetched_again(web, tmp_path):
    web.pages = {f"/{n}": photograph(n) for n in range(3)}
    urls = {str(n): f"{web.url}/{n}" for n in range(3)}
    fetch_images(urls, tmp_path)
    (tmp_path / "0").unlink()
    (tmp_path / "1").write_bytes(photograph(1)[:50])
    log = tmp_path / LOG_FILE
    log.write_text(log.read_text() + '{"file": "2", "ur')  # a kill in the middle of a line
    assert all(answer.reason is None for answer in fetch_images(urls, tmp_path).values())
    assert [web.requests[f"/{n}"] for n in range(3)] == [2, 2, 1]
    assert (tmp_path / "1").read_bytes() == photograph(1)


def test_a_picture_that_broke_off_on_its_way_is_fetched_by_the_next_command(web, tmp_path):
    def page(handler, number):
        handler.send_response(200)  # without its length, so that nobody can tell that it broke off
        handler.end_headers()
        handler.wfile.write(photograph(1)[: None if number else -200])
        handler.close_connection = True

    web.pages = {"/a": page}
    answer = fetch_images({"a": f"{web.url}/a"}, tmp_path)["a"]
    assert "it cannot be decoded" in str(answer.reason)
    assert not answer.final
    assert fetch_images({"a": f"{web.url}/a"}, tmp_path)["a"].reason is None
    assert (tmp_path / "a").read_bytes() == photograph(1)


def test_errors_of_the_moment_are_waited_for(web, tmp_path):
    def busy(handler, number):
        if number == 0:
            handler.reply(503, headers={"Retry-After": "1"})
        else:
            handler.reply(200, photograph(1))

    def cut_short(handler, number):
        if number == 0:
            handler.reply(200, photograph(2)[:100], {"Content-Length": "5000", "Connection": "close"})
            handler.close_connection = True
        else:
            handler.reply(200, photograph(2))

    def hang_up(handler, number):
        if number == 0:
            handler.close_connection = True
            handler.connection.close()
        else:
            handler.reply(200, photograph(3))

    web.pages = {"/busy": busy, "/cut": cut_short, "/hang": hang_up}
    started = time.monotonic()
    answers = fetch_images({name: f"{web.url}/{name}" for name in ("busy", "cut", "hang")}, tmp_path)
    assert time.monotonic() - started >= 1
    assert [answers[name].reason for name in ("busy", "cut", "hang")] == [None] * 3
    assert [(tmp_path / name).read_bytes() for name in ("busy", "cut", "hang")] == [photograph(n) for n in (1, 2, 3)]


def test_what_is_final_is_not_asked_again_and_what_is_not_is(web, tmp_path):
    too_long = lambda handler, number: handler.reply(429, headers={"Retry-After": "86400"})  # noqa: E731
    web.pages = {
        "/later": too_long,
        "/text": lambda handler, _: handler.reply(200, b"<html>", {"Content-Type": "text/html"}),
    }
    urls = {name: f"{web.url}/{name}" for name in ("later", "gone", "text")}
    answers = fetch_images(urls, tmp_path)
    assert answers["gone"].reason == "the server answered 404 Not Found"
    assert answers["text"].reason == "the server sent text/html, not an image"
    assert answers["later"].reason == "the server answered 429 Too Many Requests; the server asks to wait 86400 s"
    assert [answers[name].final for name in ("later", "gone", "text")] == [False, True, True]
    web.pages["/later"] = photograph(1)
    answers = fetch_images(urls, tmp_path)
    assert answers["later"].reason is None
    assert web.requests == {"/later": 2, "/gone": 1, "/text": 1}


@pytest.mark.parametrize(
    ("status", "tries", "is_final"),
    [
        *((status, 1, True) for status in (400, 404, 410, 414, 451)),
        *((status, 1, False) for status in (401, 403, 204)),
        *((status, TRIES, False) for status in (429, 500, 507, 520, 524, 529)),
    ],
)
def test_only_what_stays_as_it_is_is_final(web, tmp_path, status, tries, is_final):
    web.pages = {"/a": lambda handler, _: handler.reply(status)}
    answer = fetch_images({"a": f"{web.url}/a"}, tmp_path, first_pause=0.01)["a"]
    assert str(answer.reason).startswith(f"the server answered {status}")
    assert (web.requests["/a"], answer.final) == (tries, is_final)
    web.pages = {"/a": photograph(1)}
    assert (fetch_images({"a": f"{web.url}/a"}, tmp_path)["a"].reason is None) is not is_final


def test_more_images_than_the_window_are_all_fetched(web, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "_WINDOW", 3)
    web.pages = {f"/{n}": photograph(n) for n in range(20)}
    urls = {str(n): f"{web.url}/{n}" for n in range(21)}
    answers = fetch_images(urls, tmp_path, connections=2)
    assert [file for file, answer in answers.items() if answer.reason] == ["20"]
    assert set(web.requests.values()) == {1}


def test_a_server_that_never_recovers_is_given_up(web, tmp_path):
    web.pages = {"/down": lambda handler, _: handler.reply(500)}
    answer = fetch_images({"down": f"{web.url}/down"}, tmp_path, first_pause=0.01)["down"]
    assert answer.reason == "the server answered 500 Internal Server Error"
    assert web.requests["/down"] == TRIES
    refused = fetch_images({"x": "http://127.0.0.1:9/x.jpg"}, tmp_path, first_pause=0.01)["x"]
    assert refused.reason is not None
    assert not refused.final


def test_what_is_no_photograph_is_refused_with_the_reason(web, tmp_path):
    def endless(handler, _):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        chunk = b"100000\r\n" + bytes(2**20) + b"\r\n"
        for _ in range(MAX_BYTES // 2**20 + 2):
            handler.wfile.write(chunk)

    web.pages = {
        "/words": b"no image",
        "/large": lambda handler, _: handler.reply(200, headers={"Content-Length": str(MAX_BYTES + 1)}),
        "/endless": endless,
    }
    urls = {name: f"{web.url}/{name}" for name in ("words", "large", "endless")}
    urls |= {"file": "file:///etc/passwd", "ftp": "ftp://127.0.0.1/x.jpg", "broken": "http://[::1/x", "none": "http://"}
    answers = fetch_images(urls, tmp_path)
    assert "it is not an image in a format that can be read" in str(answers["words"].reason)
    assert answers["large"].reason == answers["endless"].reason == "it is larger than 64 MiB"
    assert answers["file"].reason == answers["ftp"].reason == "it is no address of the web (http or https)"
    assert all(answers[name].reason for name in ("broken", "none"))
    assert sorted(path.name for path in tmp_path.iterdir()) == [LOG_FILE]
    logged = [json.loads(line)["file"] for line in (tmp_path / LOG_FILE).read_text().splitlines()]
    assert set(logged) >= {"words", "large", "endless", "file", "ftp"}


def test_a_redirection_is_followed_but_not_to_a_file(web, tmp_path):
    web.pages = {
        "/moved": lambda handler, _: handler.reply(302, headers={"Location": "/there"}),
        "/there": photograph(5),
        "/trick": lambda handler, _: handler.reply(302, headers={"Location": "file:///etc/hostname"}),
    }
    answers = fetch_images({name: f"{web.url}/{name}" for name in ("moved", "trick")}, tmp_path)
    assert answers["moved"].reason is None
    assert answers["trick"].reason is not None


def test_a_line_that_a_kill_cut_short_costs_no_other_answer(web, tmp_path):
    web.pages = {"/a": photograph(1), "/gone": lambda handler, _: handler.reply(404)}
    (tmp_path / LOG_FILE).write_text('{"file": "x", "ur')
    urls = {name: f"{web.url}/{name}" for name in ("gone", "a")}
    first = fetch_images(urls, tmp_path, connections=1)
    assert fetch_images(urls, tmp_path) == first
    assert web.requests == {"/a": 1, "/gone": 1}
