"""Publishing with the real client against a Hub on this machine."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hub.answers import Hub
from hub.faults import Fault, FaultKind
from hub.publisher import publish_folder
from huggingface_hub import CommitOperationAdd, HfApi, snapshot_download

from sae_traits.errors import ReleaseError
from sae_traits.release.folder_plan import plan_folder
from sae_traits.release.hub import Published

CARD = "---\nlicense: mit\n---\n# Traits\n"


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A dataset folder with two shards."""
    folder = tmp_path / "dataset"
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text(CARD)
    (folder / "data" / "train-00000-of-00002.parquet").write_bytes(b"first shard" * 100)
    (folder / "data" / "train-00001-of-00002.parquet").write_bytes(b"second shard" * 100)
    return folder


def publish(hub: Hub, folder: Path, repo_id: str = "museum/traits", *, private: bool = False) -> Published:
    return publish_folder(
        folder,
        repo_id,
        repo_type="dataset",
        private=private,
        token=hub.token,
        endpoint=hub.url,
    )


def client(hub: Hub) -> HfApi:
    return HfApi(endpoint=hub.url, token=hub.token)


def paths(hub: Hub, repo_id: str = "museum/traits") -> list[str]:
    return client(hub).list_repo_files(repo_id, repo_type="dataset")


def test_a_plan_lists_every_file_with_its_size(release: Path):
    assert list(plan_folder(release).items()) == [
        ("README.md", len(CARD)),
        ("data/train-00000-of-00002.parquet", 1100),
        ("data/train-00001-of-00002.parquet", 1200),
    ]


@pytest.mark.parametrize(
    "name", [".DS_Store", ".git/config", "data/x.parquet.tmp", "__pycache__/a.pyc", "data/.hidden/x.parquet", "a~"]
)
def test_hidden_and_temporary_files_are_refused(release: Path, name: str):
    (release / name).parent.mkdir(exist_ok=True)
    (release / name).write_text("x")
    with pytest.raises(ReleaseError, match="remove it"):
        plan_folder(release)


def test_results_that_the_hub_reads_from_a_hidden_folder_are_planned(release: Path):
    (release / ".eval_results").mkdir()
    (release / ".eval_results" / "zero-shot.yaml").write_text("- value: 1\n")
    assert ".eval_results/zero-shot.yaml" in plan_folder(release)


@pytest.mark.parametrize("folder", [False, True])
def test_links_out_of_the_folder_are_refused(release: Path, tmp_path: Path, folder: bool):
    secret = tmp_path / "secret"
    secret.mkdir() if folder else secret.write_text("x")
    (release / "data" / "link").symlink_to(secret)
    with pytest.raises(ReleaseError, match=r"link is a link to .*secret"):
        plan_folder(release)


def test_a_broken_link_and_a_pipe_are_refused(release: Path):
    (release / "link").symlink_to(release / "nowhere")
    with pytest.raises(ReleaseError, match="neither a file nor a folder"):
        plan_folder(release)
    (release / "link").unlink()
    os.mkfifo(release / "pipe")
    with pytest.raises(ReleaseError, match="neither a file nor a folder"):
        plan_folder(release)


def test_a_link_inside_the_folder_is_a_file(release: Path):
    (release / "LICENSE").symlink_to("README.md")
    assert plan_folder(release)["LICENSE"] == len(CARD)


def test_a_missing_and_an_empty_folder_are_refused(tmp_path: Path):
    with pytest.raises(ReleaseError, match="is not a folder"):
        plan_folder(tmp_path / "missing")
    with pytest.raises(ReleaseError, match="is empty"):
        plan_folder(tmp_path)


def test_what_is_published_comes_back(hub: Hub, release: Path, tmp_path: Path):
    published = publish(hub, release)
    assert published.changed
    assert published.url == f"{hub.url}/datasets/museum/traits"
    loaded = Path(
        snapshot_download(
            published.repo_id,
            repo_type="dataset",
            revision=published.revision,
            local_dir=tmp_path / "loaded",
            endpoint=hub.url,
            token=False,
        )
    )
    for path in plan_folder(release):
        assert (loaded / path).read_bytes() == (release / path).read_bytes()


def test_a_release_is_one_commit_and_the_same_release_is_none(hub: Hub, release: Path):
    first = publish(hub, release)
    hub.requests.clear()
    second = publish(hub, release)
    assert second.revision == first.revision
    assert not second.changed
    assert not [request for request in hub.requests if request.startswith("PUT") or "/commit/" in request]
    assert [c.title for c in client(hub).list_repo_commits("museum/traits", repo_type="dataset")] == [
        "Publish",
        "initial commit",
    ]


def test_one_changed_file_is_one_upload(hub: Hub, release: Path):
    first = publish(hub, release)
    (release / "data" / "train-00001-of-00002.parquet").write_bytes(b"other")
    hub.requests.clear()
    second = publish(hub, release)
    assert second.changed
    assert second.revision != first.revision
    assert sum(request.startswith("PUT") for request in hub.requests) == 1


def test_a_release_replaces_its_shards_and_leaves_the_files_of_others(hub: Hub, release: Path):
    publish(hub, release)
    foreign = [
        CommitOperationAdd(path, b"x") for path in ("CITATION.cff", "data/notes.md", "extra/x.parquet", "y.parquet")
    ]
    client(hub).create_commit("museum/traits", foreign, commit_message="Notes", repo_type="dataset")
    (release / "data" / "train-00000-of-00002.parquet").unlink()
    (release / "data" / "train-00001-of-00002.parquet").rename(release / "data" / "train-00000-of-00001.parquet")
    published = publish(hub, release)
    assert published.deleted == ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet")
    assert paths(hub) == [
        ".gitattributes",
        "CITATION.cff",
        "README.md",
        "data/notes.md",
        "data/train-00000-of-00001.parquet",
        "extra/x.parquet",
        "y.parquet",
    ]


def test_a_change_in_between_publishes_nothing(hub: Hub, release: Path):
    """Someone else commits while the shards are on their way."""
    publish(hub, release)
    (release / "data" / "train-00000-of-00002.parquet").write_bytes(b"new")
    repository = hub.store.repositories["dataset", "museum/traits"]

    def commit_of_another(request: str) -> None:
        if request.startswith("PUT /uploads/"):
            repository.add_commit("main", "Meanwhile", "", "visitor", repository.find("main").files)

    hub.listeners.append(commit_of_another)
    with pytest.raises(
        ReleaseError, match=r"museum/traits changed meanwhile.*nothing was published.* run the same command"
    ):
        publish(hub, release)
    assert repository.find("main").title == "Meanwhile"
    hub.listeners.clear()
    assert publish(hub, release).changed


def test_a_private_repository_is_created_private_and_stays_so(hub: Hub, release: Path):
    publish(hub, release, private=True)
    assert client(hub).repo_info("museum/traits", repo_type="dataset").private
    (release / "README.md").write_text(CARD + "more\n")
    publish(hub, release, private=False)
    assert client(hub).repo_info("museum/traits", repo_type="dataset").private


def test_private_is_refused_where_the_repository_is_public(hub: Hub, release: Path):
    before = publish(hub, release)
    (release / "README.md").write_text(CARD + "a secret\n")
    with pytest.raises(ReleaseError, match="exists and is public"):
        publish(hub, release, private=True)
    assert client(hub).repo_info("museum/traits", repo_type="dataset").sha == before.revision


def test_a_bare_name_goes_to_the_namespace_of_the_token(hub: Hub, release: Path):
    assert publish(hub, release, "traits").repo_id == "curator/traits"


@pytest.mark.parametrize(
    ("repo_id", "token", "expected"),
    [
        (
            "museum/traits",
            "hf_wrong0000000000000000000000000000000",
            "wants a valid token for museum/traits; set HF_TOKEN",
        ),
        ("herbarium/traits", "", "your token may not write to herbarium/traits"),
        ("museum/two words", "", "'museum/two words' is not the name of a repository; write it as NAME/REPOSITORY"),
    ],
)
def test_a_refusal_is_one_line_that_says_what_to_do_and_holds_no_token(
    hub: Hub, release: Path, repo_id: str, token: str, expected: str
):
    with pytest.raises(ReleaseError) as caught:
        publish_folder(
            release,
            repo_id,
            repo_type="dataset",
            token=token or hub.token,
            endpoint=hub.url,
        )
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "hf_" not in str(caught.value)


def test_a_token_that_the_hub_repeats_is_not_shown(hub: Hub, release: Path):
    (release / "README.md").write_text(f"---\nlicense: '{hub.token}\n---\n")
    with pytest.raises(ReleaseError, match="hf_…") as caught:
        publish(hub, release)
    assert hub.token not in str(caught.value)


def test_a_rate_limit_says_when_to_come_back(hub: Hub, release: Path):
    hub.requests_left = 0
    with pytest.raises(ReleaseError, match=r"limits requests, museum/traits has to wait; .* in 30 seconds"):
        publish(hub, release)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("500", r"has a problem of its own \(500\) with museum/traits; run the same command again"),
        ("409", "is busy with another change of museum/traits; run the same command again"),
        ("412", "museum/traits changed meanwhile: somebody else pushed to it"),
        ("reset", "cannot reach http.* to publish museum/traits .*check the connection"),
    ],
)
def test_a_fault_is_one_line_that_says_what_to_do(hub: Hub, release: Path, kind: FaultKind, expected: str):
    hub.faults = {5: Fault(kind)}  # the branch is made, which the client does not try again
    with pytest.raises(ReleaseError, match=expected) as caught:
        publish(hub, release)
    assert "\n" not in str(caught.value)
    assert publish(hub, release).changed


def test_a_card_that_is_not_yaml_is_refused_before_anything_is_uploaded(hub: Hub, release: Path):
    (release / "README.md").write_text("---\nlicense: [\n---\n")
    with pytest.raises(ReleaseError, match=r"Invalid metadata in README\.md") as caught:
        publish(hub, release)
    assert "\n" not in str(caught.value)
    assert not [request for request in hub.requests if request.startswith("PUT")]


def test_a_hub_that_does_not_answer_is_one_line(release: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ReleaseError, match=f"cannot reach {address} .*refused.*check the connection") as caught:
        publish_folder(release, "museum/traits", repo_type="dataset", token="hf_x", endpoint=address)
    assert "\n" not in str(caught.value)


def test_an_upload_that_breaks_leaves_the_repository_as_it_was(hub: Hub, release: Path):
    before = publish(hub, release)
    (release / "data" / "train-00000-of-00002.parquet").write_bytes(b"new")
    hub.listeners.append(lambda request: hub.uploads.clear() if request.startswith("PUT") else None)
    with pytest.raises(ReleaseError, match="your token may not write to museum/traits"):
        publish(hub, release)
    assert client(hub).repo_info("museum/traits", repo_type="dataset").sha == before.revision


@pytest.mark.parametrize(("data", "gone"), [("data", ("release.json",)), ("other", ())])
def test_the_settings_of_a_release_by_reference_go_when_its_images_come(hub: Hub, release: Path, data: str, gone):
    (release / "release.json").write_text("{}")
    publish(hub, release)
    (release / "release.json").unlink()
    (release / "data").rename(release / data)
    assert tuple(path for path in publish(hub, release).deleted if path == "release.json") == gone


@pytest.mark.parametrize("place", ["sae-traits-release-", "main"])
def test_what_does_not_have_the_hashes_of_the_folder_after_the_upload_is_refused(hub: Hub, release: Path, place: str):
    """Nothing is loaded back here: names and hashes are compared in any case."""
    first, second = (f"data/train-0000{number}-of-00002.parquet" for number in (0, 1))

    def swap(request: str) -> None:
        repository = hub.store.repositories.get(("dataset", "museum/traits"))
        for branch in repository.branches if repository else ():
            files = repository.find(branch).files
            if branch.startswith(place) and first in files:
                files[first] = files[second]

    hub.listeners.append(swap)
    with pytest.raises(ReleaseError, match="does not hold what was uploaded: names or hashes of files differ"):
        publish(hub, release)
    repository = hub.store.repositories["dataset", "museum/traits"]
    assert repository.tags == {}
    assert (repository.find("main").title == "initial commit") == (place != "main")
