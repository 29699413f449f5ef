"""Publishing an SAE and its dataset with the real clients, over a Hub where everything may go wrong."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hub.answers import Hub
from hub.faults import FAULT_KINDS, Fault, FaultKind
from hub.loopback import client_environment, running_hub
from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from sae_traits.release.cards import BEGINS

MODEL, DATASET, SPACE = "museum/moth-sae", "museum/moth-traits", "museum/moth-atlas"
PREFIX = "sae-traits-release-"


class Publisher:
    """A process that publishes; it is started when it is first needed, and again after it was killed."""

    def __init__(self, hub: Hub, folder: Path) -> None:
        self.hub = hub
        self.folder = folder
        self.said: list[str] = []
        """Everything that came on its stdout."""
        self.log = folder / "stderr.log"
        self._process: subprocess.Popen[str] | None = None

    def publish(self, n_rows: int = 4, **terms: Any) -> dict[str, Any]:
        """Publish a dataset of so many rows, and the SAE."""
        process = self._process or self._start()
        values = {"model_repo": MODEL, "dataset_repo": DATASET, "collection": "Moths", "n_rows": n_rows} | terms
        try:
            process.stdin.write(json.dumps(values) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            process.wait()
            self._process = None
            return {"killed": process.returncode}
        self.said.append(line)
        return json.loads(line)

    def kill(self) -> None:
        """As the system does when memory runs out."""
        if self._process:
            os.kill(self._process.pid, signal.SIGKILL)

    def _start(self) -> subprocess.Popen[str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING_FACE_"))}
        # HF_DEBUG: the client says what it sends, which must not say the token.
        environment = inherited | client_environment(self.hub, self.folder / "home") | {"HF_DEBUG": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hub.publisher", str(self.folder / "release")],
            cwd=Path(__file__).parents[1],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log.open("a"),
            text=True,
        )
        return self._process

    def close(self) -> None:
        """End the process; on its own it would take seconds."""
        self.kill()
        if self._process:
            self._process.communicate()


@pytest.fixture(scope="module")
def one_publisher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publisher]:
    """One for the module: its imports take seconds."""
    with running_hub(tmp_path_factory.mktemp("hub")) as hub:
        publisher = Publisher(hub, tmp_path_factory.mktemp("publisher"))
        yield publisher
        publisher.close()


@pytest.fixture
def publisher(one_publisher: Publisher) -> Publisher:
    """With a Hub that holds nothing."""
    start_anew(one_publisher.hub)
    return one_publisher


def start_anew(hub: Hub, faults: dict[int, Fault] | None = None) -> None:
    hub.store.clear()
    hub.requests.clear()
    hub.listeners.clear()
    hub.n_received = 0
    hub.faults = faults or {}


def client(hub: Hub) -> HfApi:
    return HfApi(endpoint=hub.url, token=hub.token)


def commit(hub: Hub, repo_type: str, repo_id: str, path: str, content: bytes = b"note") -> None:
    """What somebody else does."""
    operations = [CommitOperationAdd(path, content)]
    client(hub).create_commit(repo_id, operations, commit_message="Theirs", repo_type=repo_type)


def state(hub: Hub) -> dict[str, Any]:
    """Branches, tags and their trees, history and settings of every repository, and the collections."""
    found: dict[str, Any] = {
        f"{kind} {repo_id}": {
            "branches": {name: trees(repository.commits[oid].files) for name, oid in repository.branches.items()},
            "commits": repository.branches,
            "tags": repository.tags,
            "history": [one.title for one in repository.history(repository.find("main"))],
            "access": (repository.private, repository.gated),
        }
        for (kind, repo_id), repository in sorted(hub.store.repositories.items())
    }
    return found | {one.title: sorted(one.items) for one in hub.store.collections.values()}


def trees(files: Any) -> dict[str, str]:
    return {path: file.oid for path, file in files.items()}


def writes(hub: Hub) -> list[str]:
    """Requests that change something; asking whether a repository exists, and which files it has, is none."""
    return [r for r in hub.requests if not r.startswith(("GET", "HEAD", "POST /api/repos/create"))]


def test_a_release_is_a_commit_a_tag_and_no_branch_each_and_the_same_again_is_nothing(publisher: Publisher):
    hub = publisher.hub
    done = publisher.publish()
    model, dataset = done["published"]
    assert [model[1:], dataset[1:]] == [["v0.1.0", True]] * 2
    for kind, repo_id, title in (("model", MODEL, "an SAE"), ("dataset", DATASET, "an image-trait dataset")):
        repository = hub.store.repositories[kind, repo_id]
        history = [one.title for one in repository.history(repository.find("main"))]
        assert history == [f"Publish {title} with sae-traits", "initial commit"]
        assert list(repository.branches) == ["main"]
        assert repository.tags == {"v0.1.0": repository.branches["main"]}
    assert state(hub)["Moths"] == [("dataset", DATASET), ("model", MODEL)]
    file = hub.store.repositories["dataset", DATASET].find("main").files["data/default/train-00000-of-00001.parquet"]
    table = pq.read_table(hub.store.object_path(file.sha256))
    assert set(table["sae"].to_pylist()) == {f"{MODEL}@{model[0]}"}

    before = state(hub)
    hub.requests.clear()
    again = publisher.publish()
    assert [one[:2] for one in again["published"]] == [one[:2] for one in done["published"]]
    assert not any(one[2] for one in again["published"])
    assert writes(hub) == []
    assert state(hub) == before


def test_the_atlas_is_a_static_space_that_is_published_last_and_in_the_same_order(publisher: Publisher):
    hub, terms = publisher.hub, {"space_repo": SPACE}
    assert len(publisher.publish(n_rows=3, **terms)["published"]) == 3
    space = hub.store.repositories["space", SPACE]
    assert list(space.branches) == ["main"]
    files = space.find("main").files
    assert {"index.html", "index-1.html", "index-2.html", "data/search.js", "picture.webp", "README.md"} < set(files)
    front = hub.store.object_path(files["README.md"].sha256).read_text().split("---")[1]
    values = yaml.safe_load(front)
    assert (values["sdk"], values["app_file"]) == ("static", "index.html")
    assert (values["models"], values["datasets"]) == ([MODEL], [DATASET])
    assert ("space", SPACE) in state(hub)["Moths"]
    moved = [request for request in hub.requests if request.endswith("/commit/main")]
    assert moved == [
        f"POST /api/{kind}/commit/main" for kind in (f"models/{MODEL}", f"datasets/{DATASET}", f"spaces/{SPACE}")
    ]
    loaded = [request for request in hub.requests if f"/spaces/{SPACE}/resolve/" in request]
    assert hub.requests.index(loaded[-1]) < hub.requests.index(moved[-1])

    before = state(hub)
    hub.requests.clear()
    assert not any(one[2] for one in publisher.publish(n_rows=3, **terms)["published"])
    assert writes(hub) == []
    assert state(hub) == before
    commit(hub, "space", SPACE, "notes.txt")
    model, dataset, again = publisher.publish(n_rows=2, **terms)["published"]
    assert (model[2], dataset[2], again[1:]) == (False, True, ["v0.1.1", True])
    left = hub.store.repositories["space", SPACE].find("main").files
    assert "index-2.html" not in left, "the page of an earlier atlas is gone"
    assert "notes.txt" in left, "what others put there stays"


def test_main_moves_after_everything_was_loaded_back(publisher: Publisher):
    publisher.publish()
    requests = publisher.hub.requests
    for kind, page in (("models", MODEL), ("datasets", f"datasets/{DATASET}")):
        repo_id = page.removeprefix("datasets/")
        order = [
            f"POST /api/{kind}/{repo_id}/branch/{PREFIX}",
            f"POST /api/{kind}/{repo_id}/commit/{PREFIX}",
            f"GET /{page}/resolve/",
            f"POST /api/{kind}/{repo_id}/commit/main",
            f"DELETE /api/{kind}/{repo_id}/branch/{PREFIX}",
            f"POST /api/{kind}/{repo_id}/tag/",
        ]
        places = [next(i for i, request in enumerate(requests) if request.startswith(start)) for start in order]
        assert places == sorted(places)
        loaded = [r for r in requests[: places[3]] if r.startswith(order[2])]
        assert {r.rsplit("/", 1)[1].split("-")[0] for r in loaded} >= (
            {"config.json", "model.safetensors"} if kind == "models" else {"README.md", "train", "test"}
        )


@pytest.fixture(scope="module")
def undisturbed(one_publisher: Publisher) -> tuple[dict[str, Any], int]:
    """The state that an undisturbed publish ends in, and its number of requests."""
    start_anew(one_publisher.hub)
    assert "published" in one_publisher.publish()
    return state(one_publisher.hub), one_publisher.hub.n_received


def check_mended(publisher: Publisher, number: int, kind: FaultKind, expected: dict[str, Any]) -> bool:
    """A fault at one request, then the same again where that made publishing fail; whether it did."""
    hub = publisher.hub
    start_anew(hub, {number: Fault(kind)})
    first = publisher.publish()
    where = f"{kind} at request {number}"
    assert not hub.faults, f"{where} was never made"
    if failed := "published" not in first:
        assert "\n" not in first["error"], where
        assert MODEL in first["error"] or DATASET in first["error"] or "Moths" in first["error"], where
        again = publisher.publish()
        assert "published" in again, f"{where}: {first}, then {again}"
    assert state(hub) == expected, where
    return failed


def test_after_a_fault_the_same_command_ends_in_the_same_state(
    publisher: Publisher, undisturbed: tuple[dict[str, Any], int]
):
    """At every seventh request, each time of another kind."""
    expected, n_requests = undisturbed
    numbers = range(3, n_requests + 1, 7)
    kinds = [FAULT_KINDS[place % len(FAULT_KINDS)] for place in range(len(numbers))]
    failed = [check_mended(publisher, n, kind, expected) for n, kind in zip(numbers, kinds, strict=True)]
    assert any(failed)
    assert not all(failed), "what the client itself tries again, or waits for, is no failure"


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_after_any_fault_at_any_request_the_same_command_ends_in_the_same_state(
    publisher: Publisher, undisturbed: tuple[dict[str, Any], int], kind: FaultKind
):
    expected, n_requests = undisturbed
    failed = [check_mended(publisher, number, kind, expected) for number in range(1, n_requests + 1)]
    assert any(failed) == (kind != "slow")


@pytest.mark.slow
@pytest.mark.parametrize("point", ["PUT", "/commit/sae-traits", "/commit/main", "/tag/", "/resolve/"])
@pytest.mark.parametrize("repo_id", [MODEL, DATASET])
def test_after_a_kill_the_same_command_ends_in_the_same_state(
    publisher: Publisher, undisturbed: tuple[dict[str, Any], int], repo_id: str, point: str
):
    hub = publisher.hub
    start_anew(hub)
    seen: list[str] = []

    def kill(request: str) -> None:
        seen.append(request)
        repository = any(repo_id in one for one in seen) if point == "PUT" else repo_id in request
        if point in request and repository:
            hub.listeners.clear()
            publisher.kill()

    hub.listeners.append(kill)
    assert publisher.publish() == {"killed": -signal.SIGKILL}
    assert "published" in publisher.publish()
    assert state(hub) == undisturbed[0]


def test_what_was_uploaded_before_a_failure_is_not_uploaded_again(publisher: Publisher):
    hub = publisher.hub

    def fail(request: str) -> None:
        if request == f"POST /api/datasets/{DATASET}/commit/main":
            raise ConnectionResetError

    hub.listeners.append(fail)
    assert "cannot reach" in publisher.publish()["error"]
    repository = hub.store.repositories["dataset", DATASET]
    assert repository.find("main").title == "initial commit"
    assert repository.tags == {}
    hub.listeners.clear()
    hub.requests.clear()
    assert [one[2] for one in publisher.publish()["published"]] == [False, True]
    assert not [r for r in hub.requests if r.startswith("PUT") or f"/commit/{PREFIX}" in r]
    assert list(repository.branches) == ["main"]


def test_branches_of_given_up_attempts_go_when_main_moves(publisher: Publisher):
    hub = publisher.hub
    client(hub).create_repo(MODEL)
    client(hub).create_branch(MODEL, branch=f"{PREFIX}0123456789ab")
    client(hub).create_branch(MODEL, branch="their-work")
    publisher.publish()
    assert sorted(hub.store.repositories["model", MODEL].branches) == ["main", "their-work"]


def test_a_branch_of_an_earlier_attempt_on_another_main_is_made_anew(publisher: Publisher):
    hub = publisher.hub

    def fail(request: str) -> None:
        if request == f"POST /api/models/{MODEL}/commit/main":
            raise ConnectionResetError

    hub.listeners.append(fail)
    publisher.publish()
    hub.listeners.clear()
    commit(hub, "model", MODEL, "NOTES.md")
    assert "published" in publisher.publish()
    repository = hub.store.repositories["model", MODEL]
    assert "NOTES.md" in repository.find("v0.1.0").files
    assert [one.title for one in repository.history(repository.find("main"))][1] == "Theirs"


def test_a_version_is_the_next_patch_unless_said_and_only_what_changed_gets_one(publisher: Publisher):
    publisher.publish()
    assert [one[1:] for one in publisher.publish(5)["published"]] == [["v0.1.0", False], ["v0.1.1", True]]
    assert [one[1:] for one in publisher.publish(6, tag="v2.0.0")["published"]] == [["v2.0.0", False], ["v2.0.0", True]]
    assert [one[1:] for one in publisher.publish(7)["published"]] == [["v2.0.0", False], ["v2.0.1", True]]
    tags = publisher.hub.store.repositories["dataset", DATASET].tags
    assert list(tags) == ["v0.1.0", "v0.1.1", "v2.0.0", "v2.0.1"]
    assert len(set(tags.values())) == 4
    assert len(set(publisher.hub.store.repositories["model", MODEL].tags.values())) == 1


def test_a_tag_that_points_elsewhere_is_refused_before_anything_is_uploaded(publisher: Publisher):
    hub = publisher.hub
    publisher.publish()
    publisher.publish(5)
    before = state(hub)
    hub.requests.clear()
    for n_rows in (4, 5, 6):  # what it holds, but main has moved on; what main holds; and something new
        error = publisher.publish(n_rows, tag="v0.1.0")["error"]
        assert error.startswith(f"{DATASET} has a v0.1.0 already, and it is not this release; nothing was uploaded")
    assert writes(hub) == []
    assert state(hub) == before
    assert "not a version" in publisher.publish(tag="1.0")["error"]

    client(hub).create_tag(DATASET, tag="v1.0.0", repo_type="dataset")  # taken, and the SAE has not changed
    assert publisher.publish(6, tag="v1.0.0")["error"].startswith(f"{DATASET} has a v1.0.0 already")
    assert list(hub.store.repositories["model", MODEL].tags) == ["v0.1.0"]

    start_anew(hub)  # the dataset's is taken, the SAE is new
    client(hub).create_repo(DATASET, repo_type="dataset")
    client(hub).create_tag(DATASET, tag="v1.0.0", repo_type="dataset")
    hub.requests.clear()
    assert publisher.publish(tag="v1.0.0")["error"].startswith(f"{DATASET} has a v1.0.0 already")
    assert writes(hub) == []


@pytest.mark.parametrize(("kind", "name"), [("dataset", DATASET), ("space", SPACE)])
def test_a_card_on_the_hub_that_has_lost_a_mark_is_found_before_anything_is_uploaded(
    publisher: Publisher, kind: str, name: str
):
    hub = publisher.hub
    client(hub).create_repo(name, repo_type=kind, space_sdk="static" if kind == "space" else None)
    commit(hub, kind, name, "README.md", f"{BEGINS}\nOur text, whose end mark is gone.".encode())
    hub.requests.clear()
    error = publisher.publish(space_repo=SPACE)["error"]
    assert name in error
    assert "does not have each of the comments" in error
    assert writes(hub) == []


def test_a_note_of_somebody_else_is_kept_and_makes_no_new_version(publisher: Publisher):
    hub = publisher.hub
    first = publisher.publish(tag="v1.0.0")
    commit(hub, "model", MODEL, "NOTES.md")
    commit(hub, "dataset", DATASET, "data/notes.md")
    for terms in ({}, {"tag": "v1.0.0"}):
        again = publisher.publish(**terms)
        assert [one[:2] for one in again["published"]] == [one[:2] for one in first["published"]]
    publisher.publish(5)
    assert "data/notes.md" in hub.store.repositories["dataset", DATASET].find("v1.0.1").files


def test_a_push_in_between_is_explained_and_the_next_attempt_builds_on_it(publisher: Publisher):
    hub = publisher.hub
    publisher.publish()

    def push(request: str) -> None:
        if f"/commit/{PREFIX}" in request:
            hub.listeners.clear()
            repository = hub.store.repositories["dataset", DATASET]
            files = repository.find("main").files
            repository.add_commit("main", "Theirs", "", "visitor", {**files, "NOTES.md": files["README.md"]})

    hub.listeners.append(push)
    error = publisher.publish(5)["error"]
    assert "changed meanwhile: somebody else pushed to it" in error
    assert "run the same command again" in error
    repository = hub.store.repositories["dataset", DATASET]
    assert repository.find("main").title == "Theirs"
    assert [one[1] for one in publisher.publish(5)["published"]] == ["v0.1.0", "v0.1.1"]
    assert "NOTES.md" in repository.find("v0.1.1").files


def tamper(hub: Hub, kind: str, repo_id: str, path: str, change: Callable[[bytes], bytes]) -> None:
    """Change what a file holds as soon as it is on a branch, and leave its hash: a fault of the Hub's own storage."""

    def listen(request: str) -> None:
        repository = hub.store.repositories.get((kind, repo_id))
        branches = [name for name in repository.branches if name.startswith(PREFIX)] if repository else []
        for name in branches:
            files = repository.find(name).files
            if path in files:
                content = change(hub.store.object_path(files[path].sha256).read_bytes())
                hub.store.object_path(files[path].sha256).write_bytes(content)
                files[path] = replace(files[path], size=len(content))
                hub.listeners.clear()

    hub.listeners.append(listen)


def changed_table(change: Callable[[pa.Table], pa.Table]) -> Callable[[bytes], bytes]:
    def changed(content: bytes) -> bytes:
        sink = io.BytesIO()
        pq.write_table(change(pq.read_table(io.BytesIO(content))), sink)
        return sink.getvalue()

    return changed


def with_another_text(table: pa.Table) -> pa.Table:
    column = table.schema.get_field_index("text")
    return table.set_column(column, table.schema.field("text"), [["blue", *table["text"].to_pylist()[1:]]])


@pytest.mark.parametrize(
    ("path", "change", "expected"),
    [
        ("data/default/train-00000-of-00001.parquet", with_another_text, "the rows of default/train"),
        ("data/default/train-00000-of-00001.parquet", lambda t: t.slice(1), "the rows of default/train"),
        (
            "data/latents/train-00000-of-00001.parquet",
            lambda t: pa.table({"latent": t["latent"].cast(pa.int32())}),
            "the columns and types of latents/train",
        ),
    ],
)
def test_a_dataset_that_comes_back_different_does_not_reach_main(
    publisher: Publisher, path: str, change: Callable[[pa.Table], pa.Table], expected: str
):
    tamper(publisher.hub, "dataset", DATASET, path, changed_table(change))
    error = publisher.publish()["error"]
    assert error.startswith(f"{DATASET}: {expected} came back from the Hub different")
    repository = publisher.hub.store.repositories["dataset", DATASET]
    assert repository.find("main").title == "initial commit"
    assert repository.tags == {}


@pytest.mark.parametrize(
    ("path", "change", "expected"),
    [
        ("model.safetensors", lambda content: content[:-4] + b"\0\0\x80?", "came back from the Hub different"),
        ("model.safetensors", lambda content: content[: len(content) // 2], "does not load back"),
        ("config.json", lambda content: content.replace(b'"k": 2', b'"k": 3'), "the configuration of the SAE"),
    ],
)
def test_an_sae_that_comes_back_different_does_not_reach_main(
    publisher: Publisher, path: str, change: Callable[[bytes], bytes], expected: str
):
    tamper(publisher.hub, "model", MODEL, path, change)
    error = publisher.publish()["error"]
    assert expected in error
    assert "\n" not in error
    assert publisher.hub.store.repositories["model", MODEL].find("main").title == "initial commit"
    assert publisher.hub.store.repositories["dataset", DATASET].find("main").title == "initial commit"


@pytest.mark.parametrize("gated", ["auto", "manual"])
def test_gates_are_closed_before_anything_is_uploaded(publisher: Publisher, gated: str, tmp_path: Path):
    hub = publisher.hub
    publisher.publish(gated=gated)
    places = [i for i, request in enumerate(hub.requests) if request.endswith("/settings")]
    assert len(places) == 2
    assert max(places) < min(i for i, request in enumerate(hub.requests) if "/branch/" in request)
    hub.requests.clear()
    publisher.publish(gated=gated)
    publisher.publish()
    assert writes(hub) == []

    def read(token: str) -> Path:
        return Path(hf_hub_download(MODEL, "config.json", endpoint=hub.url, token=token, cache_dir=tmp_path / token))

    assert client(hub).model_info(MODEL).gated == gated
    with pytest.raises(GatedRepoError):
        read(hub.other_token)
    hub.store.repositories["model", MODEL].readers.append("visitor")
    assert read(hub.other_token).is_file()


def test_private_repositories_are_read_back_and_hidden_from_others(publisher: Publisher):
    hub = publisher.hub
    assert "published" in publisher.publish(private=True)
    for token in (hub.other_token, False):
        with pytest.raises(RepositoryNotFoundError):
            HfApi(endpoint=hub.url, token=token).model_info(MODEL)
    assert [one.private for one in hub.store.collections.values()] == [True]
    start_anew(hub)
    client(hub).create_repo(DATASET, repo_type="dataset")
    assert f"{DATASET} exists and is public" in publisher.publish(private=True)["error"]
    assert not [request for request in hub.requests if "/commit/" in request]


def test_a_collection_is_found_by_its_title_among_the_owners_and_filled_once(publisher: Publisher):
    hub = publisher.hub
    mine = client(hub).create_collection("Moths", namespace="curator")
    full = client(hub).create_collection("Beetles", namespace="museum")
    for number in range(5):  # listings show four items at most
        client(hub).create_repo(f"museum/beetles-{number}")
        client(hub).add_collection_item(full.slug, f"museum/beetles-{number}", "model")
    publisher.publish()
    publisher.publish(collection="Beetles")
    publisher.publish(collection="Beetles")
    assert len(hub.store.collections) == 3
    assert hub.store.collections[mine.slug].items == []
    assert hub.store.collections[full.slug].items[5:] == [("model", MODEL), ("dataset", DATASET)]


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ({"model_repo": "herbarium/sae"}, "your token may not write to herbarium/sae"),
        ({"dataset_repo": "herbarium/traits"}, "your token may not write to herbarium/traits"),
        ({"dataset_repo": "museum/two words"}, "'museum/two words' is not the name of a repository"),
        ({"model_repo": "sae"}, "'sae' does not say whose repository it is; write --model-repo as ORG/NAME"),
    ],
)
def test_a_name_that_cannot_be_used_is_found_before_anything_is_uploaded(
    publisher: Publisher, terms: dict[str, str], expected: str
):
    assert expected in publisher.publish(**terms)["error"]
    assert not [request for request in publisher.hub.requests if "/commit/" in request or request.startswith("PUT")]


def test_the_token_is_nowhere(publisher: Publisher):
    """Not in what was said in this whole module, errors and the client's own log of its requests included."""
    hub = publisher.hub
    publisher.publish()
    start_anew(hub, {30: Fault("500"), 5: Fault("412")})
    publisher.publish()
    log = publisher.log.read_text()
    assert "curl" in log, "the client logged its requests"
    for text in (log, *publisher.said):
        assert hub.token not in text
        assert not re.search(r"hf_[0-9a-f]{8}", text)
    places = [publisher.folder / "release", publisher.folder / "home", hub.store.folder]
    for file in (file for place in places for file in place.rglob("*") if file.is_file()):
        assert hub.token.encode() not in file.read_bytes(), file
