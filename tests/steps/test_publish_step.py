"""Publishing a finished run, to the Hub and back."""

import json
import subprocess
import sys
from dataclasses import replace

from steps.small_runs import command

from sae_traits.cli import main
from sae_traits.schema import Collection


def test_images_without_a_licence_are_warned_of_before_they_are_published(run, capsys):
    collection = Collection.load(run / "images.parquet")
    bare = tuple(replace(record, license=None) for record in collection.images[:3])
    replace(collection, images=bare + collection.images[3:]).save(run / "images.parquet")
    arguments = ["publish", str(run), "--model-repo", "a/b", "--dataset-repo", "a/c", "--dry-run"]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert "warning: 3 of 80 images have no licence" in captured.err
    assert "nothing was uploaded" in captured.out


def test_a_run_is_published_and_loaded_by_id(finished, hub, hub_environment):
    arguments = ["publish", finished, "--model-repo", "museum/drawn-sae", "--dataset-repo", "museum/drawn-traits"]

    def publish(*more):
        return subprocess.run(command(*arguments, *more), env=hub_environment, capture_output=True, text=True)

    dry = publish("--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "model.safetensors" in dry.stdout
    assert "nothing was uploaded" in dry.stdout
    assert not hub.store.repositories

    first = publish()
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("published ") == 2
    again = publish()
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("unchanged ") == 2
    assert again.stdout.replace("unchanged", "published") == first.stdout
    assert hub.token not in first.stdout + first.stderr + again.stdout + again.stderr

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
    found = subprocess.run([sys.executable, "-c", code], env=hub_environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    n_rows, name, n_latents, species, n_traits = json.loads(found.stdout)
    assert (name, n_latents) == ("museum/drawn-sae", 256)
    assert n_rows > 50
    assert species
    assert 1 <= n_traits <= 5
