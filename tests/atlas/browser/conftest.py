"""A browser, a small atlas over http and as files, and pages that may do nothing wrong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from atlas.small_atlases import SUGGESTION, hostile_release, hostile_sheet, made_firing

from sae_traits.atlas import build_atlas

CHROMIUM = Path("/usr/bin/chromium")
"""Where Debian's package puts it; `make test-browser` installs it."""


@pytest.fixture(scope="module")
def browser():
    """Of the module, not the session: while Playwright runs, no other test of the process can use asyncio."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; make test-browser")
    if not CHROMIUM.is_file():
        pytest.skip(f"there is no {CHROMIUM}; make test-browser")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def site(browser, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    hostile_release(folder / "dataset", folder / "photographs")
    sheet = hostile_sheet(folder / "photographs")
    firing = made_firing({"Aus bus": {1: 9, 2: 9}, "Aus cus": {1: 3}})  # of the third species nothing is known
    build_atlas(folder / "dataset", folder / "an atlas", firing=firing, suggestions={1: SUGGESTION}, sheet=sheet)
    return folder / "an atlas"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def server(site) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(site))) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


def _is_missing(failed) -> bool:
    """Whether a request found nothing; a picture that was left before it came is no fault."""
    return failed.failure != "net::ERR_ABORTED"


@pytest.fixture(params=["file", "http"])
def address(request, site, server) -> str:
    """Where the atlas is: as files that were opened by double click, and on a web server."""
    return site.as_uri() if request.param == "file" else server


@pytest.fixture
def page(browser, address) -> Iterator:
    """An empty page; at the end nothing was said on its console, and no other host was asked for anything."""
    wrong: list[str] = []
    context = browser.new_context(accept_downloads=True)
    opened = context.new_page()
    opened.on("console", lambda message: wrong.append(f"{message.type}: {message.text}"))
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("requestfailed", lambda failed: wrong.append(f"not there: {failed.url}") if _is_missing(failed) else None)
    opened.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
    ours = (address, "data:", "blob:")
    opened.on("request", lambda asked: None if asked.url.startswith(ours) else wrong.append(f"asked for {asked.url}"))
    yield opened
    context.close()
    assert not wrong
