"""The real clients against the loopback Hub: what they rely on elsewhere must hold here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hub.answers import Hub
from hub.loopback import running_hub
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    HfFileSystem,
    hf_hub_download,
    snapshot_download,
)
from huggingface_hub.errors import (
    BadRequestError,
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

SAE = "museum/moth-sae"


@pytest.fixture
def api(hub: Hub) -> HfApi:
    """The client of the account `curator`, with a model of one file large enough to go by LFS and two small ones."""
    api = HfApi(endpoint=hub.url, token=hub.token)
    api.create_repo(SAE)
    push(
        api, "First", **{"layer-11/model.safetensors": b"weights", "layer-11/config.json": b"{}", "README.md": b"# SAE"}
    )
    return api


def push(api: HfApi, title: str, *, parent: str | None = None, **files: bytes) -> str:
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    return api.create_commit(SAE, operations, commit_message=title, parent_commit=parent).oid


def test_whoami_names_the_account_and_its_organisations(hub: Hub):
    who = HfApi(endpoint=hub.url, token=hub.token).whoami()
    assert (who["name"], [org["name"] for org in who["orgs"]]) == ("curator", ["museum"])


def test_a_repository_exists_once(api: HfApi):
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_repo(SAE)
    assert caught.value.response.status_code == 409
    assert api.create_repo(SAE, exist_ok=True).repo_id == SAE
    api.delete_repo(SAE)
    assert not api.repo_exists(SAE)


def test_a_model_and_a_dataset_of_one_name_are_two_repositories(api: HfApi):
    api.create_repo(SAE, repo_type="dataset")
    assert api.list_repo_files(SAE, repo_type="dataset") == [".gitattributes"]
    assert "README.md" in api.list_repo_files(SAE)


def test_writing_needs_a_token_with_rights(hub: Hub, api: HfApi):
    for token, status in ((False, 401), (hub.other_token, 403), ("hf_unknown", 401)):
        with pytest.raises(HfHubHTTPError) as caught:
            api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=SAE, token=token)
        assert caught.value.response.status_code == status
        with pytest.raises(HfHubHTTPError):
            api.create_repo("museum/other", token=token)


def test_a_private_repository_is_missing_for_others(hub: Hub, api: HfApi, tmp_path: Path):
    api.create_repo("museum/secret", private=True)
    api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id="museum/secret")
    assert api.model_info("museum/secret").private
    for token in (False, hub.other_token):
        with pytest.raises(RepositoryNotFoundError):
            api.model_info("museum/secret", token=token)
        with pytest.raises(RepositoryNotFoundError):
            hf_hub_download("museum/secret", "x.txt", endpoint=hub.url, token=token, cache_dir=tmp_path)


def test_large_files_are_uploaded_once(hub: Hub, api: HfApi):
    hub.requests.clear()
    push(api, "A copy", **{"copy.safetensors": b"weights", "other.safetensors": b"other"})
    assert sum(request.startswith("PUT") for request in hub.requests) == 1


def test_a_content_that_is_not_the_announced_one_is_refused(hub: Hub, api: HfApi):
    operation = CommitOperationAdd("x.safetensors", b"content")
    operation.upload_info.sha256 = b"\1" * 32
    with pytest.raises(RuntimeError) as caught:
        api.create_commit(SAE, [operation], commit_message="x")
    assert isinstance(caught.value.__cause__, BadRequestError)
    assert not hub.store.object_path("01" * 32).exists()


def test_deletions_of_files_and_folders(api: HfApi):
    api.create_commit(SAE, [CommitOperationDelete("layer-11/")], commit_message="Folder")
    assert api.list_repo_files(SAE) == [".gitattributes", "README.md"]
    api.create_commit(SAE, [CommitOperationDelete("README.md")], commit_message="File")
    assert api.list_repo_files(SAE) == [".gitattributes"]
    with pytest.raises(EntryNotFoundError):
        api.create_commit(SAE, [CommitOperationDelete("README.md")], commit_message="Again")


def test_a_commit_on_an_old_parent_is_refused(api: HfApi):
    first = push(api, "Second", **{"a.txt": b"a"})
    push(api, "Third", parent=first, **{"a.txt": b"b"})
    with pytest.raises(HfHubHTTPError) as caught:
        push(api, "Fourth", parent=first, **{"a.txt": b"c"})
    assert caught.value.response.status_code == 412
    assert api.list_repo_commits(SAE)[0].title == "Third"


def test_branches_tags_and_commits_keep_their_state(hub: Hub, api: HfApi, tmp_path: Path):
    first = api.model_info(SAE).sha
    api.create_tag(SAE, tag="v1")
    api.create_branch(SAE, branch="feature/x")
    push(api, "Second", **{"README.md": b"# Better"})

    def readme(revision: str | None) -> str:
        path = hf_hub_download(SAE, "README.md", revision=revision, endpoint=hub.url, token=False, cache_dir=tmp_path)
        return Path(path).read_text()

    assert [readme(revision) for revision in ("v1", "feature/x", first, "main", None)] == ["# SAE"] * 3 + [
        "# Better"
    ] * 2
    refs = api.list_repo_refs(SAE)
    assert {ref.name: ref.target_commit == first for ref in refs.branches} == {"main": False, "feature/x": True}
    assert [(tag.name, tag.target_commit) for tag in refs.tags] == [("v1", first)]
    with pytest.raises(HfHubHTTPError):
        api.create_tag(SAE, tag="v1")
    api.create_tag(SAE, tag="v1", exist_ok=True)
    api.delete_tag(SAE, tag="v1")
    with pytest.raises(RevisionNotFoundError):
        api.model_info(SAE, revision="v1")
    assert [commit.title for commit in api.list_repo_commits(SAE)] == ["Second", "First", "initial commit"]


def test_listings_have_sizes_hashes_and_the_last_change(api: HfApi):
    push(api, "Second", **{"layer-11/config.json": b"{} "})
    entries = {entry.path: entry for entry in api.list_repo_tree(SAE, recursive=True, expand=True)}
    assert list(entries) == [
        ".gitattributes",
        "README.md",
        "layer-11",
        "layer-11/config.json",
        "layer-11/model.safetensors",
    ]
    weights = entries["layer-11/model.safetensors"]
    assert (weights.size, weights.lfs.size, weights.last_commit.title) == (7, 7, "First")
    assert (entries["layer-11/config.json"].last_commit.title, entries["layer-11"].last_commit.title) == ("Second",) * 2
    top = [entry.path for entry in api.list_repo_tree(SAE)]
    assert top == [".gitattributes", "README.md", "layer-11"]
    assert [entry.path for entry in api.get_paths_info(SAE, ["layer-11", "missing", "README.md"])] == [
        "layer-11",
        "README.md",
    ]
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree(SAE, "layer-12"))


def test_long_listings_come_in_pages(hub: Hub, api: HfApi):
    hub.page_size = 2
    hub.requests.clear()
    assert len(list(api.list_repo_tree(SAE, recursive=True))) == 5
    assert len(hub.requests) == 3


def test_files_can_be_read_in_parts(hub: Hub, api: HfApi):
    content = bytes(range(256)) * 40
    push(api, "Bytes", **{"bytes.bin": content})
    with HfFileSystem(endpoint=hub.url, token=False).open(f"{SAE}/bytes.bin", block_size=1000) as file:
        file.seek(5000)
        assert file.read(300) == content[5000:5300]
        file.seek(-7, 2)
        assert file.read() == content[-7:]


def test_a_snapshot_of_a_subfolder(hub: Hub, api: HfApi, tmp_path: Path):
    folder = snapshot_download(SAE, allow_patterns="layer-11/*", endpoint=hub.url, token=False, cache_dir=tmp_path)
    files = sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())
    assert files == ["layer-11/config.json", "layer-11/model.safetensors"]


def test_what_is_missing_is_named_as_on_the_hub(hub: Hub, api: HfApi, tmp_path: Path):
    options = {"endpoint": hub.url, "token": False, "cache_dir": tmp_path}
    with pytest.raises(EntryNotFoundError):
        hf_hub_download(SAE, "missing.json", **options)
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download(SAE, "README.md", revision="v9", **options)
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("museum/missing", "README.md", **options)


def test_a_hub_started_again_remembers(tmp_path: Path):
    with running_hub(tmp_path / "hub") as hub:
        api = HfApi(endpoint=hub.url, token=hub.token)
        api.create_repo(SAE, private=True)
        oid = push(api, "First", **{"model.safetensors": b"weights"})
        api.create_tag(SAE, tag="v1")
    with running_hub(tmp_path / "hub") as hub:
        info = HfApi(endpoint=hub.url, token=hub.token).model_info(SAE, revision="v1", files_metadata=True)
        assert (info.sha, info.private) == (oid, True)
        assert [(file.rfilename, file.size) for file in info.siblings][1:] == [("model.safetensors", 7)]


def test_by_hand_it_prints_the_environment_of_its_clients(tmp_path: Path):
    command = [sys.executable, "-m", "hub.loopback", "--port", "0", str(tmp_path)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True) as process:
        try:
            lines = [process.stdout.readline().removeprefix("export ").strip() for _ in range(6)]
            environment = dict(line.split("=", 1) for line in lines)
            api = HfApi(endpoint=environment["HF_ENDPOINT"], token=environment["HF_TOKEN"])
            assert api.create_repo("things").repo_id == "curator/things"
        finally:
            process.terminate()


ROUND_TRIP = """
import json, os, sys
from pathlib import Path
from datasets import get_dataset_config_names, load_dataset
from datasets.exceptions import DatasetNotFoundError
from hub.publisher import publish_folder, write_dataset
from huggingface_hub import HfApi
from sae_traits import SAE, SAEConfig
from sae_traits.release.load_back import load_back_dataset, load_back_saes

folder = Path(sys.argv[1])

def publish(folder, repo_id, repo_type, load_back):
    return publish_folder(
        folder, repo_id, repo_type=repo_type, private=True,  load_back=load_back
    )

seeds = {"": 0, "layer-3/wide": 1}
for subfolder, seed in seeds.items():
    config = SAEConfig(architecture="topk", d_model=4, n_latents=8, k=2)
    SAE.from_config(config, seed=seed).save_pretrained(folder / "sae" / subfolder)
first_sae = publish(folder / "sae", "museum/sae", "model", load_back_saes)
SAE.from_config(config, seed=2).save_pretrained(folder / "sae")
publish(folder / "sae", "museum/sae", "model", load_back_saes)

def weight(**arguments):
    return round(float(SAE.from_pretrained("museum/sae", **arguments).W_dec[0, 0]), 5)

own = {seed: round(float(SAE.from_config(config, seed=seed).W_dec[0, 0]), 5) for seed in (0, 1, 2)}
saes = {
    "main": weight() == own[2],
    "subfolder": weight(subfolder="layer-3/wide") == own[1],
    "tag": weight(revision="v0.1.0") == own[0],
    "commit": weight(revision=first_sae.revision) == own[0],
    "tag and subfolder": weight(revision="v0.1.1", subfolder="layer-3/wide") == own[1],
}

for n_rows in (5, 7):
    data = write_dataset(folder / "traits", "museum/sae@main", n_rows)
    publish(data, "museum/traits", "dataset", load_back_dataset)

def rows(config, revision, streaming):
    loaded = load_dataset("museum/traits", config, revision=revision, streaming=streaming)
    return {split: sum(1 for _ in table) for split, table in loaded.items()}

def failure(repo_id, **arguments):
    try:
        load_dataset(repo_id, **arguments)
    except DatasetNotFoundError as error:
        return str(error)

# First, since datasets falls back to what is in its cache.
refused = [failure("museum/traits", token=False), failure("museum/missing")]
row = load_dataset("museum/traits", split="train", revision="v0.1.1")[6]
streamed = list(load_dataset("museum/traits", split="train", revision="v0.1.1", streaming=True))[6]
for one in (row, streamed):
    image = one.pop("image")
    one["pixel"] = [image.size, image.getpixel((0, 0))]
print(json.dumps({
    "saes": saes,
    "configs": get_dataset_config_names("museum/traits"),
    "rows": {
        f"{config} {revision} {streaming}": rows(config, revision, streaming)
        for config in ("default", "latents")
        for revision in ("v0.1.0", "v0.1.1", None)
        for streaming in (False, True)
    },
    "row": row,
    "same": row == streamed,
    "refused": refused,
}), flush=True)
# Threads of pyarrow that read a stream ahead may abort an interpreter that ends (apache/arrow#45214).
os._exit(0)
"""


def test_round_trips_by_id(hub: Hub, hub_environment: dict[str, str], tmp_path: Path):
    """Published with the token and address of the environment alone; loaded by id, config, tag, and as a stream."""
    process = subprocess.run(
        [sys.executable, "-c", ROUND_TRIP, str(tmp_path)],
        env=hub_environment,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert hub.token not in process.stdout + process.stderr
    found = json.loads(process.stdout)
    assert found["saes"] == dict.fromkeys(["main", "subfolder", "tag", "commit", "tag and subfolder"], True)
    assert found["configs"] == ["default", "latents"]
    for name, rows in found["rows"].items():
        config, revision, _ = name.split()
        train = 3 if config == "latents" else 5 if revision == "v0.1.0" else 7
        assert rows == ({"train": train} if config == "latents" else {"train": train, "test": 2}), name
    assert len(found["rows"]) == 12
    assert found["same"]
    assert found["row"] == {
        "text": "red",
        "box": [1, 2, 3, 4],
        "attributes": [{"name": "colour", "value": "red"}] * 6,
        "q_value": 0.5,
        "sae": "museum/sae@main",
        "pixel": [[8, 6], [6, 30, 30]],
    }
    assert found["refused"] == [
        f"Dataset '{repo_id}' doesn't exist on the Hub or cannot be accessed."
        for repo_id in ("museum/traits", "museum/missing")
    ]
