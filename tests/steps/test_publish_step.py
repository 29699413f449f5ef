"""Publishing a finished run, to the Hub and back."""

import json
import subprocess
import sys

import pytest
from damage.commands import forks
from drawn_collections import some_of
from hub.loopback import client_environment, running_hub, subprocess_environment
from steps.small_runs import N_SPECIES, SMALL

from sae_traits.cli import main
from sae_traits.release.cards import ENDS
from sae_traits.schema import Collection

REPOSITORIES = ["--model-repo", "museum/drawn-sae", "--dataset-repo", "museum/drawn-traits"]


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """A Hub, and processes to fork commands from that use it without being told."""
    folder = tmp_path_factory.mktemp("publishing")
    with (
        running_hub(folder / "hub") as hub,
        forks(folder / "said", **client_environment(hub, folder / "home")) as ready,
    ):
        yield hub, ready


@pytest.fixture
def empty_hub(opened):
    """The Hub, which holds nothing."""
    opened[0].store.clear()
    return opened[0]


def test_images_without_a_licence_are_warned_of_before_they_are_published(drawn, tmp_path, capsys):
    source = some_of(drawn, tmp_path / "source", n_species=N_SPECIES, images_per_species=2)
    table = (source / "metadata.csv").read_text()
    (source / "metadata.csv").write_text(table.replace("CC0-1.0", "", 3))
    few = ["--n-patches", "2000", "--n-latents", "32", "--traits-per-image", "1"]
    assert main(["run", str(source), "--out", str(tmp_path / "run"), *SMALL, *few]) == 0
    capsys.readouterr()
    publish = ["publish", str(tmp_path / "run"), "--model-repo", "a/b", "--dataset-repo", "a/c"]
    assert main([*publish, "--dry-run"]) == 0
    captured = capsys.readouterr()
    assert "warning: 3 of 18 images have no licence" in captured.err
    assert "nothing was uploaded" in captured.out
    assert "which by their own licences" not in captured.err
    licensed = ["annotate", str(tmp_path / "run"), "--sae-license", "mit"]
    assert main(licensed) == 0
    capsys.readouterr()
    assert main([*publish, "--dry-run"]) == 0
    captured = capsys.readouterr()
    assert "images, of which by their own licences 2 of other or unknown terms; say it only if" in captured.err
    n_training = sum(image.split == "train" for image in Collection.load(tmp_path / "run" / "images.parquet").images)
    rows = [f"| CC0-1.0 | {n_training - 2} |", "| none given | 2 |"]
    table = "\n".join(["| licence of the training images | images |", "| --- | ---: |", *rows])
    assert table in (tmp_path / "run" / "sae" / "README.md").read_text()
    adopting = ["run", str(source), "--out", str(tmp_path / "adopting"), "--sae", str(tmp_path / "run" / "sae")]
    assert main([*adopting, "--workers", "0", "--describer-workers", "1", "--no-significant-only"]) == 0
    card = (tmp_path / "adopting" / "sae" / "README.md").read_text()
    assert "licence of the training images" not in card, "which are others"


def test_a_secret_in_the_dataset_is_found_before_the_sae_is_published(finished, opened, empty_hub):
    secret = "images/Fictacara_ignita/001.png"  # which stands in a row of the dataset, and nowhere in the SAE's folder
    done = opened[1].do("publish", finished, *REPOSITORIES, OPENAI_API_KEY=secret)
    assert done.code == 1
    assert "holds your token or key" in done.err
    assert secret not in done.err
    assert not empty_hub.store.repositories


def test_a_lost_mark_in_the_card_of_the_dataset_is_found_before_the_sae_is_published(run, opened, empty_hub):
    card = run / "dataset" / "README.md"
    card.write_text(card.read_text().replace(ENDS, ""))
    done = opened[1].do("publish", run, *REPOSITORIES)
    assert done.code == 1
    assert f"{card}: the card does not have each of the comments" in done.err
    assert not empty_hub.store.repositories


def test_a_run_is_published_and_loaded_by_id(finished, opened, empty_hub, tmp_path):
    def publish(*more):
        done = opened[1].do("publish", finished, *REPOSITORIES, "--space", "museum/drawn-atlas", *more)
        assert done.code == 0, done.err
        return done

    dry = publish("--dry-run")
    assert "model.safetensors" in dry.out
    assert "space museum/drawn-atlas: " in dry.out
    assert "nothing was uploaded" in dry.out
    assert not empty_hub.store.repositories

    first, again = publish(), publish()
    assert first.out.count("published ") == 3
    assert again.out.count("unchanged ") == 3
    assert again.out.replace("unchanged", "published") == first.out
    pages = empty_hub.store.repositories["space", "museum/drawn-atlas"].find("main").files
    assert {"README.md", "index.html", "atlas.js", "data/search.js"} < set(pages)
    assert not any(path.startswith("review") for path in pages)
    dataset = empty_hub.store.repositories["dataset", "museum/drawn-traits"].find("main").files
    card = empty_hub.store.object_path(dataset["README.md"].sha256).read_text()
    assert "(https://huggingface.co/spaces/museum/drawn-atlas)" in card
    assert empty_hub.token not in first.out + first.err + again.out + again.err

    code = """
import json
from datasets import load_dataset
from sae_traits import SAE
traits = load_dataset("museum/drawn-traits", split="train")
name, revision = traits[0]["sae"].split("@")
sae = SAE.from_pretrained(name, revision=revision)
streamed = next(iter(load_dataset("museum/drawn-traits", "images", split="train", streaming=True)))
print(json.dumps([len(traits), name, sae.config.n_latents, streamed["species"], len(streamed["traits"])]))
"""
    environment = subprocess_environment(empty_hub, tmp_path / "home")  # whose cache is empty
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    n_rows, name, n_latents, species, n_traits = json.loads(found.stdout)
    assert (name, n_latents) == ("museum/drawn-sae", 256)
    assert n_rows > 50
    assert species
    assert 1 <= n_traits <= 5
