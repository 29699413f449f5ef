"""Cards on the Hub: what people wrote there stays, snippets run as printed, and what is no longer ours goes."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hub.answers import Hub
from hub.publisher import publish_folder
from huggingface_hub import CommitOperationAdd, HfApi
from small_releases import FACTS, LATENTS, odd_photographs, traits_of

from sae_traits import SAE, SAEConfig
from sae_traits.config.release import ReleaseConfig
from sae_traits.errors import ReleaseError
from sae_traits.release.cards import BEGINS, ENDS
from sae_traits.release.dataset import write_dataset
from sae_traits.release.dataset_card import write_dataset_card
from sae_traits.release.facts import ModelFacts
from sae_traits.release.hub import Published, RepoType
from sae_traits.release.model_card import write_model_card

DATASET, MODEL = "museum/moth-traits", "museum/moth-sae"


def client(hub: Hub) -> HfApi:
    return HfApi(endpoint=hub.url, token=hub.token)


def publish(hub: Hub, folder: Path, repo_id: str, repo_type: RepoType) -> Published:
    return publish_folder(folder, repo_id, repo_type=repo_type, token=hub.token, endpoint=hub.url)


def card_on(hub: Hub, repo_id: str, repo_type: RepoType, folder: Path) -> str:
    path = client(hub).hf_hub_download(repo_id, "README.md", repo_type=repo_type, local_dir=folder, force_download=True)
    return Path(path).read_text(encoding="utf-8")


def someone_commits(hub: Hub, repo_id: str, repo_type: RepoType, path: str, text: str) -> None:
    operations = [CommitOperationAdd(path, text.encode())]
    client(hub).create_commit(repo_id, operations, commit_message="Theirs", repo_type=repo_type)


def dataset(folder: Path, *, n_traits: int = 2, title: str = "Beetles", images: str = "embed") -> Path:
    """The folder of a small dataset, staged for the Hub."""
    collection = odd_photographs(folder / "photographs", lambda name: f"https://example.org/{name}")
    config = replace(ReleaseConfig(longest_side=256), images=images)
    traits, sae = traits_of(collection, n_traits), "museum/moth-sae@0123"
    summary = write_dataset(folder / "dataset", collection, traits, LATENTS, sae=sae, config=config, workers=1)
    write_dataset_card(folder / "dataset", summary, replace(FACTS, title=title, sae=sae, repo_id=DATASET))
    return folder / "dataset"


def model(folder: Path, facts: ModelFacts) -> Path:
    """The folder of an SAE with its card."""
    sae = SAE.from_config(SAEConfig(architecture="topk", d_model=4, n_latents=8, k=2), seed=0)
    sae.save_pretrained(folder)
    config = sae.config.to_dict() | {"training": {"metrics": {"explained_variance": 0.5}}}
    write_model_card(folder, config, repo_id=MODEL, facts=facts)
    return folder


def test_what_somebody_wrote_into_the_card_on_the_hub_is_in_the_next_release(hub: Hub, tmp_path: Path):
    publish(hub, dataset(tmp_path / "a"), DATASET, "dataset")
    card = card_on(hub, DATASET, "dataset", tmp_path / "card")
    written = card.replace(ENDS, f"## Who to ask\n\nAnn, at the museum.\n{ENDS}").replace("# Beetles", "# My beetles")
    someone_commits(hub, DATASET, "dataset", "README.md", written)
    again = publish(hub, dataset(tmp_path / "b", n_traits=1), DATASET, "dataset")
    assert again.changed
    found = card_on(hub, DATASET, "dataset", tmp_path / "card")
    assert "## Who to ask\n\nAnn, at the museum.\n" in found
    assert found.index(BEGINS) < found.index("## Who to ask") < found.index(ENDS) < found.index("## Citation")
    assert "# Beetles" in found, "what is outside of the section is written anew"
    assert "| traits per image that has one | 1.00 |" in found

    n_commits = len(client(hub).list_repo_commits(DATASET, repo_type="dataset"))
    assert not publish(hub, dataset(tmp_path / "c", n_traits=1), DATASET, "dataset").changed
    assert len(client(hub).list_repo_commits(DATASET, repo_type="dataset")) == n_commits


def test_a_card_on_the_hub_that_has_lost_a_mark_stops_the_release_before_it_begins(hub: Hub, tmp_path: Path):
    publish(hub, model(tmp_path / "sae", ModelFacts()), MODEL, "model")
    someone_commits(hub, MODEL, "model", "README.md", f"# SAE\n{BEGINS}\nMine.\n")
    with pytest.raises(ReleaseError, match="moth-sae: the card does not have each of the comments"):
        publish(hub, model(tmp_path / "again", ModelFacts()), MODEL, "model")
    assert client(hub).list_repo_commits(MODEL)[0].title == "Theirs"


def test_scores_and_pictures_of_an_earlier_release_go_and_those_of_others_stay(hub: Hub, tmp_path: Path):
    first = model(tmp_path / "first", ModelFacts(dataset_id=DATASET))
    (first / "figures").mkdir(exist_ok=True)
    (first / "figures" / "latent-00003.jpg").write_bytes(b"a photograph")
    publish(hub, first, MODEL, "model")
    assert {".eval_results/sae-traits.yaml", "figures/latent-00003.jpg"} < set(client(hub).list_repo_files(MODEL))
    someone_commits(hub, MODEL, "model", ".eval_results/others.yaml", "[]\n")
    publish(hub, model(tmp_path / "again", ModelFacts(dataset_id="museum/others")), MODEL, "model")
    assert ".eval_results/others.yaml" in client(hub).list_repo_files(MODEL)
    assert "figures/latent-00003.jpg" not in client(hub).list_repo_files(MODEL)
    gone = publish(hub, model(tmp_path / "last", ModelFacts()), MODEL, "model")
    assert gone.deleted == (".eval_results/sae-traits.yaml",)


def test_the_picture_of_a_release_goes_when_the_next_one_names_its_images_only(hub: Hub, tmp_path: Path):
    for images in ("embed", "reference"):
        publish(hub, dataset(tmp_path / images, images=images), DATASET, "dataset")
        assert ("atlas.jpg" in client(hub).list_repo_files(DATASET, repo_type="dataset")) == (images == "embed")


@pytest.mark.parametrize("images", ["embed", "reference"])
def test_the_snippet_of_a_published_dataset_runs(
    hub: Hub, hub_environment: dict[str, str], tmp_path: Path, images: str
):
    publish(hub, dataset(tmp_path, images=images), DATASET, "dataset")
    (snippet,) = re.findall(
        r"```python\n(.*?)```", card_on(hub, DATASET, "dataset", tmp_path / "card"), flags=re.DOTALL
    )
    found = subprocess.run(
        [sys.executable, "-c", snippet], cwd=tmp_path, env=hub_environment, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    first, count = found.stdout.splitlines()
    assert re.fullmatch(r"Aus bus A small area\. \[.*\]", first)
    assert re.fullmatch(r"(\d+) of \1", count), "all of these are significant"
    assert (tmp_path / "region.png").exists() == (images == "embed")
