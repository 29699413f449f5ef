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


DATASET_SCRIPT = """
import json, sys
from pathlib import Path
import datasets
from datasets import Dataset, Features, Image, List, Value, get_dataset_config_names, load_dataset
from datasets.exceptions import DatasetNotFoundError
from huggingface_hub import HfApi
from PIL import Image as Picture
from sae_traits.release.hub import publish_folder

folder = Path(sys.argv[1])
traits = Features({"image": Image(), "text": Value("string"), "box": List(Value("float32"), length=4),
                   "attributes": List({"name": Value("string"), "value": Value("string")})})
row = {"image": Picture.new("RGB", (8, 6), (200, 30, 30)), "text": "red", "box": [1, 2, 3, 4],
       "attributes": [{"name": "colour", "value": "red"}]}
(folder / "data").mkdir(parents=True)
(folder / "README.md").write_text('''---
configs:
- config_name: default
  default: true
  data_files:
  - {split: train, path: data/train-*.parquet}
  - {split: test, path: data/test-*.parquet}
- config_name: latents
  data_files: data/latents.parquet
---
# Traits
''')
Dataset.from_list([row] * 5, features=traits).to_parquet(folder / "data/train-00000.parquet")
Dataset.from_list([row] * 2, features=traits).to_parquet(folder / "data/test-00000.parquet")
Dataset.from_dict({"latent": [3, 5, 8]}).to_parquet(folder / "data/latents.parquet")

def publish():
    return publish_folder(folder, "museum/traits", repo_type="dataset", private=True, message="Publish")

publish()
HfApi().create_tag("museum/traits", tag="v1", repo_type="dataset")
Dataset.from_list([row] * 7, features=traits).to_parquet(folder / "data/train-00000.parquet")
publish()

try:
    load_dataset("museum/traits", token=False)
    without_token = "loaded"
except DatasetNotFoundError as error:
    without_token = str(error)
whole = load_dataset("museum/traits")
seen = whole["train"][6]
streamed = next(iter(load_dataset("museum/traits", split="test", streaming=True)))
try:
    load_dataset("museum/missing")
    missing = "loaded"
except DatasetNotFoundError as error:
    missing = str(error)
print(json.dumps({
    "configs": get_dataset_config_names("museum/traits"),
    "rows": {split: len(table) for split, table in whole.items()},
    "seen": [seen["image"].size, seen["image"].getpixel((0, 0)), seen["box"], seen["attributes"]],
    "streamed": [streamed["image"].size, streamed["box"], streamed["attributes"]],
    "at_tag": load_dataset("museum/traits", split="train", revision="v1").num_rows,
    "latents": load_dataset("museum/traits", "latents", split="train")["latent"][:],
    "features": whole["train"].features == traits,
    "without_token": without_token,
    "missing": missing,
}))
"""


def test_load_dataset_by_id(hub: Hub, hub_environment: dict[str, str], tmp_path: Path):
    """Published with the token and address of the environment alone; loaded by id, config, tag and as a stream."""
    process = subprocess.run(
        [sys.executable, "-c", DATASET_SCRIPT, str(tmp_path / "release")],
        env=hub_environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert hub.token not in process.stdout + process.stderr
    attributes = [{"name": "colour", "value": "red"}]
    assert json.loads(process.stdout) == {
        "configs": ["default", "latents"],
        "rows": {"train": 7, "test": 2},
        "seen": [[8, 6], [200, 30, 30], [1, 2, 3, 4], attributes],
        "streamed": [[8, 6], [1, 2, 3, 4], attributes],
        "at_tag": 5,
        "latents": [3, 5, 8],
        "features": True,
        "without_token": "Dataset 'museum/traits' doesn't exist on the Hub or cannot be accessed.",
        "missing": "Dataset 'museum/missing' doesn't exist on the Hub or cannot be accessed.",
    }
