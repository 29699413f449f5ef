"""Fetching ends in time, and asks no server of a private network unless that is allowed."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest
from web import photograph, running_web

from sae_traits.errors import CollectionError
from sae_traits.images import fetching
from sae_traits.images.fetching import fetch_images


@pytest.fixture
def web():
    with running_web() as server:
        yield server


def test_no_server_of_this_machine_is_asked_unless_that_is_allowed(web, tmp_path):
    web.pages = {"/a.jpg": photograph(1)}
    port = web.server_port
    urls = {
        "number": f"http://127.0.0.1:{port}/a.jpg",
        "name": f"http://localhost:{port}/a.jpg",
        "mapped": f"http://[::ffff:127.0.0.1]:{port}/a.jpg",
        "any": f"http://0.0.0.0:{port}/a.jpg",
    }
    answers = fetch_images(urls, tmp_path, first_pause=0.01)
    for answer in answers.values():
        assert answer.sha256 is None
        assert not answer.final
    assert "--allow-private-addresses" in str(answers["number"].reason)
    assert "localhost is " in str(answers["name"].reason)
    assert web.requests == {}  # the connection is closed before anything is asked
    allowed = fetch_images({"number": urls["number"]}, tmp_path, allow_private_addresses=True)
    assert allowed["number"].reason is None


@pytest.mark.parametrize("hosts", ["127.0.0.1", "localhost,127.0.0.1,::1", "127.0.0.1,10.0.0.0/8"])
def test_hosts_that_need_no_proxy_are_no_proxies(web, tmp_path, monkeypatch, hosts):
    """Those of NO_PROXY may not be asked more than others, and their names are no addresses."""
    monkeypatch.setenv("no_proxy", f"{hosts},127.0.0.1:{web.server_port}")
    web.pages = {"/a.jpg": photograph(1)}
    urls = {"a": f"{web.url}/a.jpg"}
    assert "--allow-private-addresses" in str(fetch_images(urls, tmp_path)["a"].reason)
    assert web.requests == {}
    assert fetch_images(urls, tmp_path, allow_private_addresses=True)["a"].reason is None


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1080", "gopher://127.0.0.1", "http://127.0.0.1:port"])
def test_a_proxy_that_cannot_be_used_is_told_in_one_line(web, tmp_path, monkeypatch, proxy):
    monkeypatch.setenv("all_proxy", proxy)
    with pytest.raises(CollectionError, match=r"the proxy .* \(HTTP_PROXY, HTTPS_PROXY, ALL_PROXY\) cannot be used"):
        fetch_images({"a": f"{web.url}/a.jpg"}, tmp_path)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2001:4860:4860::8888", True),
        ("64:ff9b::808:808", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("2002:0a00:0001::1", False),
        ("64:ff9b::a9fe:a9fe", False),
    ],
)
def test_which_addresses_are_public(address, public):
    assert fetching._is_public(address) is public


def test_a_redirection_to_a_private_network_is_refused(web, tmp_path, monkeypatch):
    """A proxy may lie in a private network; what it redirects to, past itself, may not."""
    monkeypatch.setenv("http_proxy", f"http://localhost:{web.server_port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with running_web() as inner:
        inner.pages = {"/secret.jpg": photograph(3)}
        location = f"{inner.url}/secret.jpg"
        web.pages = {
            "http://museum.example/a.jpg": lambda handler, _: handler.reply(302, headers={"Location": location}),
            "http://museum.example/b.jpg": photograph(2),
        }
        urls = {name: f"http://museum.example/{name}.jpg" for name in ("a", "b")}
        urls["c"] = f"http://127.0.0.1:{web.server_port}/c.jpg"  # the proxy itself is no source of images
        web.pages["/c.jpg"] = photograph(4)
        answers = fetch_images(urls, tmp_path, first_pause=0.01)
        assert inner.requests == {}
    assert "127.0.0.1, an address of this machine" in str(answers["a"].reason)
    assert answers["b"].reason is None
    assert answers["c"].sha256 is None
    assert set(web.requests.values()) == {1}


def test_a_server_that_sends_a_byte_now_and_then_is_given_up_in_its_body(web, tmp_path):
    def trickle(handler, _):
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(600):
                handler.wfile.write(b"x")
                time.sleep(0.05)

    web.pages = {"/slow": trickle, "/good": photograph(1)}
    started = time.monotonic()
    urls = {name: f"{web.url}/{name}" for name in ("slow", "good")}
    answers = fetch_images(urls, tmp_path, allow_private_addresses=True, seconds_per_image=2.0)
    assert time.monotonic() - started < 20
    assert answers["slow"].reason == "it could not be fetched in time"
    assert not answers["slow"].final
    assert answers["good"].reason is None


def test_a_server_that_never_ends_its_headers_is_given_up(tmp_path):
    server = socket.create_server(("127.0.0.1", 0))

    def trickle():
        connection, _ = server.accept()
        with contextlib.suppress(OSError), connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
            for _ in range(600):
                connection.sendall(b"x")
                time.sleep(0.05)

    threading.Thread(target=trickle, daemon=True).start()
    url = f"http://127.0.0.1:{server.getsockname()[1]}/a"
    started = time.monotonic()
    answer = fetch_images({"a": url}, tmp_path, allow_private_addresses=True, seconds_per_image=0.5)["a"]
    server.close()
    assert time.monotonic() - started < 20
    assert answer.reason == "it could not be fetched in time"


def test_after_the_time_for_all_images_the_rest_waits_for_the_next_command(web, tmp_path):
    def slow(handler, _):
        time.sleep(0.3)
        handler.reply(200, photograph(1))

    web.pages = {f"/{n}": slow for n in range(8)}
    urls = {str(n): f"{web.url}/{n}" for n in range(8)}
    answers = fetch_images(urls, tmp_path, connections=1, allow_private_addresses=True, seconds_in_all=0.7)
    assert sum(web.requests.values()) <= 3
    assert sum(answer.reason is None for answer in answers.values()) <= 3
    assert any("run the same command again" in str(answer.reason) for answer in answers.values())
    again = fetch_images(urls, tmp_path, allow_private_addresses=True)
    assert all(answer.reason is None for answer in again.values())
    assert sum(web.requests.values()) <= 9
