"""A sweep on the Hub: one commit, loaded by id and folder, and nothing of an earlier one left."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hub.answers import Hub
from hub.publisher import publish_folder
from huggingface_hub import CommitOperationAdd, HfApi, save_torch_model
from PIL import Image

from sae_traits import SAE, SAEConfig
from sae_traits.config.features import Texture
from sae_traits.config.train import TopK, TrainConfig
from sae_traits.errors import CheckpointError, ReleaseError
from sae_traits.features.backbone import load_backbone
from sae_traits.release.hub import Published
from sae_traits.release.model_card import write_model_card
from sae_traits.release.publication import stage_saes
from sae_traits.sae.sweep import expand, parse_sweep
from sae_traits.sae.sweep_folder import save_saes
from sae_traits.schema import BackboneInfo

REPOSITORY = "museum/moth-sae"
ROOT = [".gitattributes", "README.md", "config.json", "figures/firing_histogram.png", "model.safetensors"]


def train(folder: Path, text: str, *, backbone: BackboneInfo | None = None) -> list[SAE]:
    """Write the untrained SAEs of a sweep as a run does; the last one is the best."""
    configs = expand(TrainConfig(n_latents=8, architecture=TopK(k=2)), parse_sweep(text))
    saes = []
    for number, one in enumerate(configs):
        metrics = {
            "explained_variance": 0.5,
            "l0": 2.0,
            "dead_share": 0.0,
            "firing_histogram": {"never": 1, "1e-01": 7},
            "monosemanticity": {
                "mean_with_zeros": number / 10,
                "embedding": f"{backbone.backbone if backbone else 'x'}@0 layer 1",
            },
        }
        config = SAEConfig(
            architecture=one.architecture.kind,
            d_model=backbone.d_model if backbone else 4,
            n_latents=one.n_latents,
            k=getattr(one.architecture, "k", None),
            backbone=backbone,
            training={"n_patches": 100, "metrics": metrics},
        )
        saes.append(SAE.from_config(config, seed=one.seed).eval())
    save_saes(folder, saes, configs, parse_sweep(text))
    return saes


def write_card(folder: Path) -> None:
    write_model_card(folder, SAE.from_pretrained(folder).config.to_dict(), repo_id=REPOSITORY)


def publish(hub: Hub, source: Path) -> Published:
    """What `publish` does with RUN/sae."""
    staged = source.with_name("staged")
    shutil.rmtree(staged, ignore_errors=True)
    stage_saes(source, staged)
    write_card(staged)
    return publish_folder(
        staged,
        REPOSITORY,
        repo_type="model",
        token=hub.token,
        endpoint=hub.url,
    )


def client(hub: Hub) -> HfApi:
    return HfApi(endpoint=hub.url, token=hub.token)


def of_one(folder: str) -> list[str]:
    return [f"{folder}/config.json", f"{folder}/model.safetensors"]


def shard(folder: Path) -> None:
    """The same weights as many files, as those above 5 GB are saved."""
    sae = SAE.from_pretrained(folder)
    save_torch_model(sae, folder, max_shard_size=100, metadata={"format": "pt"})
    assert not (folder / "model.safetensors").exists()
    assert len(list(folder.glob("model-*-of-*.safetensors"))) > 1


LOAD = """
import json, sys
import torch
from sae_traits import SAE
sums = {}
for subfolder in sys.argv[2:]:
    sae = SAE.from_pretrained(sys.argv[1], subfolder=subfolder)
    sums[subfolder] = [float(sae.W_dec[:, 0].sum()), sae.config.k]
print(json.dumps(sums))
"""


def loaded(environment: dict[str, str], *subfolders: str) -> dict[str, tuple[float, int]]:
    """By id in another process: sum of the decoder's first column, and k."""
    arguments = [sys.executable, "-c", LOAD, REPOSITORY, *subfolders]
    found = subprocess.run(arguments, env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return {name: tuple(values) for name, values in json.loads(found.stdout).items()}


def seen(sae: SAE) -> tuple[float, int | None]:
    return float(sae.W_dec[:, 0].detach().sum()), sae.config.k


def test_a_sweep_is_one_commit_and_every_sae_is_loaded_by_its_folder(
    hub: Hub, hub_environment: dict[str, str], tmp_path: Path
):
    saes = train(tmp_path / "sae", "k=1,2 seed=0,1")
    names = ["topk-k1-seed0", "topk-k1-seed1", "topk-k2-seed0", "topk-k2-seed1"]
    first = publish(hub, tmp_path / "sae")
    assert first.changed
    paths = sorted([*ROOT, "sweep.json", *(path for name in names for path in of_one(name))])
    assert client(hub).list_repo_files(REPOSITORY) == paths
    assert [commit.title for commit in client(hub).list_repo_commits(REPOSITORY)] == ["Publish", "initial commit"]
    expected = {"": seen(saes[3])} | {name: seen(sae) for name, sae in zip(names, saes, strict=True)}
    assert loaded(hub_environment, *expected) == expected

    hub.requests.clear()
    second = publish(hub, tmp_path / "sae")
    assert (second.changed, second.revision) == (False, first.revision)
    assert not [request for request in hub.requests if request.startswith("PUT") or "/commit/" in request]


@pytest.mark.parametrize(("text", "names"), [("k=2,4", ["topk-k2", "topk-k4"]), ("k=2", [])])
def test_saes_of_an_earlier_sweep_go_and_the_files_of_others_stay(
    hub: Hub, tmp_path: Path, text: str, names: list[str]
):
    train(tmp_path / "sae", "k=1,2,3")
    publish(hub, tmp_path / "sae")
    others = ["LICENSE", "notes.json", "probe.safetensors", "topk-k1/notes.md", "topk-k9/model.safetensors"]
    client(hub).create_commit(
        REPOSITORY, [CommitOperationAdd(path, path.encode()) for path in others], commit_message="Notes"
    )
    train(tmp_path / "sae", text)
    published = publish(hub, tmp_path / "sae")
    kept = [path for name in names for path in of_one(name)]
    kept_sweep = ["sweep.json"] if names else []
    assert client(hub).list_repo_files(REPOSITORY) == sorted([*ROOT, *others, *kept, *kept_sweep])
    gone = [path for name in ("topk-k1", "topk-k2", "topk-k3") for path in of_one(name)]
    gone = [path for path in gone if path not in kept] + ([] if names else ["sweep.json"])
    assert sorted(published.deleted) == sorted(gone)
    titles = [commit.title for commit in client(hub).list_repo_commits(REPOSITORY)]
    assert titles == ["Publish", "Notes", "Publish", "initial commit"]
    assert not publish(hub, tmp_path / "sae").changed


@pytest.mark.parametrize("text", ['{"saes": "theirs"}', "no JSON", '{"saes": [{"folder": "../.."}]}'])
def test_beside_the_sweep_file_of_someone_else_nothing_is_deleted(hub: Hub, tmp_path: Path, text: str):
    client(hub).create_repo(REPOSITORY)
    theirs = [
        CommitOperationAdd("sweep.json", text.encode()),
        CommitOperationAdd("a/model.safetensors", b"theirs"),
    ]
    client(hub).create_commit(REPOSITORY, theirs, commit_message="Theirs")
    train(tmp_path / "sae", "k=2")
    assert publish(hub, tmp_path / "sae").deleted == ()
    assert {"sweep.json", "a/model.safetensors"} < set(client(hub).list_repo_files(REPOSITORY))


def test_large_weights_are_published_and_loaded_as_shards(hub: Hub, hub_environment: dict[str, str], tmp_path: Path):
    """Then the same SAEs in one file each: the index of the shards would be read first if it stayed."""
    saes = train(tmp_path / "sae", "k=1,2")
    for folder in ("", "topk-k1", "topk-k2"):
        shard(tmp_path / "sae" / folder)
    publish(hub, tmp_path / "sae")
    paths = client(hub).list_repo_files(REPOSITORY)
    assert {"model.safetensors.index.json", "topk-k1/model.safetensors.index.json"} < set(paths)
    assert not any(path.endswith("model.safetensors") for path in paths)
    expected = {"": seen(saes[1]), "topk-k1": seen(saes[0]), "topk-k2": seen(saes[1])}
    assert loaded(hub_environment, *expected) == expected

    others = train(tmp_path / "sae", "k=1,2")
    with torch.no_grad():
        others[1].W_dec.mul_(-1)
    others[1].save_pretrained(tmp_path / "sae")
    publish(hub, tmp_path / "sae")
    paths = client(hub).list_repo_files(REPOSITORY)
    assert paths == sorted([*ROOT, "sweep.json", *of_one("topk-k1"), *of_one("topk-k2")])
    folder = client(hub).snapshot_download(REPOSITORY, local_dir=tmp_path / "loaded")
    assert seen(SAE.from_pretrained(folder)) == seen(others[1])


def test_the_place_of_a_backbone_on_this_machine_is_named_nowhere(tmp_path: Path):
    info = load_backbone(Texture(), device="cpu").info
    private = replace(info, backbone='/home/jane "o" doe/modèles/insect-vit')
    train(tmp_path / "sae", "k=1,2", backbone=private)
    stage_saes(tmp_path / "sae", tmp_path / "staged")
    write_card(tmp_path / "staged")
    for file in (tmp_path / "staged").rglob("*"):
        if file.is_file():
            assert "jane" not in file.read_bytes().decode("utf-8", "replace"), file
    for subfolder in ("", "topk-k1", "topk-k2"):
        config = SAE.from_pretrained(tmp_path / "staged", subfolder=subfolder).config
        assert config.backbone
        assert config.backbone.backbone == "insect-vit"
        assert config.training["metrics"]["monosemanticity"]["embedding"] == "insect-vit@0 layer 1"
    assert "insect-vit@0 layer 1" in (tmp_path / "staged" / "sweep.json").read_text()
    assert SAE.from_pretrained(tmp_path / "sae").config.backbone == private, "the run itself still finds it"


def test_what_is_staged_of_a_read_only_run_can_be_written(tmp_path: Path):
    train(tmp_path / "sae", "k=1,2")
    paths = [tmp_path / "sae", *(tmp_path / "sae").rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    stage_saes(tmp_path / "sae", tmp_path / "staged")
    for path in [tmp_path / "staged", *(tmp_path / "staged").rglob("*")]:
        assert path.stat().st_mode & stat.S_IWUSR, path
    for path in paths:
        assert not path.stat().st_mode & stat.S_IWUSR, "the run stays as it was"
        path.chmod(0o755)


def test_what_should_not_be_published_is_refused_before_it_is_copied(tmp_path: Path):
    with pytest.raises(ReleaseError, match="is not a folder"):
        stage_saes(tmp_path / "sae", tmp_path / "staged")
    train(tmp_path / "sae", "k=1,2")
    (tmp_path / "sae" / "topk-k1" / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"topk-k1/config\.json"):
        stage_saes(tmp_path / "sae", tmp_path / "staged")
    (tmp_path / "sae" / "secret").symlink_to(tmp_path)
    with pytest.raises(ReleaseError, match="secret is a link"):
        stage_saes(tmp_path / "sae", tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(("sweep", "said"), [("k=1,2", ["8 True 2 2", "8 True 2 1"]), ("k=2", ["8 True 2 2"])])
def test_the_snippets_of_a_published_card_run(
    hub: Hub, hub_environment: dict[str, str], tmp_path: Path, sweep: str, said: list[str]
):
    info = load_backbone(Texture(), device="cpu").info
    train(tmp_path / "sae", sweep, backbone=info)
    publish(hub, tmp_path / "sae")
    card = Path(client(hub).hf_hub_download(REPOSITORY, "README.md", local_dir=tmp_path / "card")).read_text()
    snippets = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    assert len(snippets) == len(said)
    code = "\nprint(codes.shape[1], len(grid.valid) == len(codes), int((codes > 0).sum(1).max()), sae.config.k)\n"
    Image.effect_noise((90, 60), 60).convert("RGB").save(tmp_path / "photograph.jpg")
    found = subprocess.run(
        [sys.executable, "-c", code.join([*snippets, ""])],
        cwd=tmp_path,
        env=hub_environment,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines() == said
