"""Publishing a finished run, to the Hub and back."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from steps.small_runs import SMALL, command

from sae_traits.cli import main


def test_images_without_a_licence_are_warned_of_before_they_are_published(drawn, tmp_path, capsys):
    source = Path(shutil.copytree(drawn, tmp_path / "source"))
    table = (source / "metadata.csv").read_text()
    (source / "metadata.csv").write_text(table.replace("CC0-1.0", "", 3))
    few = ["--n-patches", "2000", "--n-latents", "32", "--traits-per-image", "1"]
    assert main(["run", str(source), "--out", str(tmp_path / "run"), *SMALL, *few]) == 0
    capsys.readouterr()
    publish = ["publish", str(tmp_path / "run"), "--model-repo", "a/b", "--dataset-repo", "a/c"]
    assert main([*publish, "--dry-run"]) == 0
    captured = capsys.readouterr()
    assert "warning: 3 of 80 images have no licence" in captured.err
    assert "nothing was uploaded" in captured.out


def test_a_secret_in_the_dataset_is_found_before_the_sae_is_published(finished, hub, hub_environment):
    publish = command("publish", finished, "--model-repo", "museum/drawn-sae", "--dataset-repo", "museum/drawn-traits")
    secret = "images/Fictacara_ignita/001.png"  # which stands in a row of the dataset, and nowhere in the SAE's folder
    done = subprocess.run(publish, env=hub_environment | {"OPENAI_API_KEY": secret}, capture_output=True, text=True)
    assert done.returncode == 1
    assert "holds your token or key" in done.stderr
    assert secret not in done.stderr
    assert not hub.store.repositories


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
