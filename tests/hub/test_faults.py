"""The loopback Hub's own faults, as the real client meets them."""

from __future__ import annotations

import time

import pytest
from hub.answers import Hub
from hub.faults import Fault, FaultKind
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HTTPError


@pytest.fixture
def api(hub: Hub) -> HfApi:
    api = HfApi(endpoint=hub.url, token=hub.token)
    api.create_repo("museum/sae")
    hub.n_received = 0
    return api


@pytest.mark.parametrize(("kind", "status"), [("429", 429), ("500", 500), ("412", 412), ("409", 409)])
def test_a_status_is_the_answer_and_nothing_was_done(hub: Hub, api: HfApi, kind: FaultKind, status: int):
    hub.faults = {1: Fault(kind)}
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_branch("museum/sae", branch="work")
    assert caught.value.response.status_code == status
    assert caught.value.response.headers.get("Retry-After") == ("0" if kind == "429" else None)
    assert [branch.name for branch in api.list_repo_refs("museum/sae").branches] == ["main"]


@pytest.mark.parametrize(("kind", "branches"), [("reset", {"main"}), ("lost", {"main", "work"})])
def test_a_connection_is_reset_before_or_after_the_hub_has_acted(
    hub: Hub, api: HfApi, kind: FaultKind, branches: set[str]
):
    hub.faults = {1: Fault(kind)}
    with pytest.raises(HTTPError, match="reset"):
        api.create_branch("museum/sae", branch="work")
    assert {branch.name for branch in api.list_repo_refs("museum/sae").branches} == branches


def test_an_answer_may_end_in_the_middle_or_come_slowly(hub: Hub, api: HfApi):
    hub.faults = {2: Fault("cut"), 3: Fault("slow", seconds=0.3)}
    assert api.model_info("museum/sae").sha
    with pytest.raises(HTTPError):
        api.model_info("museum/sae")
    started = time.monotonic()
    assert api.model_info("museum/sae").sha
    assert time.monotonic() - started >= 0.3
    assert hub.faults == {}
