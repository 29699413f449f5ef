"""Recipes: every one resolves, and Bioscan-Traits goes its whole way on a small drawn BIOSCAN-5M."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from bioscan_recipe import D_MODEL, RECIPE, draw_bioscan, make_dinov2, recipe_command
from datasets import load_dataset
from describer_server.running import describer_server
from huggingface_hub import DatasetCard

from sae_traits.cli import main
from sae_traits.config import PaperContrast, ReLU, RunConfig, SAERegions, Server, TrainConfig, VisionModel
from sae_traits.config.layers import read_config, recipe_file
from sae_traits.config.tree import build
from sae_traits.features.store import FeatureStore
from sae_traits.images.bioscan import LICENSE, RECORD_URL, RIGHTS_HOLDER
from sae_traits.release.tables import CONFIG_NAMES, features
from sae_traits.runs.context import Context
from sae_traits.sae.model import SAE
from sae_traits.schema import Collection
from sae_traits.steps import STEPS, run_steps
from sae_traits.steps.estimate import estimate_run
from sae_traits.traits.ledger import Ledger
from sae_traits.traits.table import read_traits

N_SPECIES, N_INDIVIDUALS = 8, 5
HEADER_BYTES = 1024


@pytest.mark.parametrize("recipe", sorted(RECIPE.parent.glob("*.yaml")), ids=lambda path: path.name)
def test_a_recipe_resolves_and_says_what_it_is(recipe):
    build(RunConfig, read_config(recipe))
    assert recipe.read_text(encoding="utf-8").startswith("# ")
    assert recipe_file(recipe.name) == recipe


def test_bioscan_traits_has_the_settings_of_the_paper():
    config = build(RunConfig, read_config(RECIPE))
    assert config.features.backbone == VisionModel(model="facebook/dinov2-base", layer=11)
    assert config.features.framing == "crop"
    train = config.train
    assert isinstance(train, TrainConfig)
    assert train.architecture == ReLU(l1_coefficient=4e-4, sparsity_warmup_steps=0)
    assert (train.n_latents, train.n_patches, train.batch_size) == (24_576, 100_000_000, 16_384)
    assert (train.learning_rate, train.warmup_steps) == (1e-3, 500)
    assert isinstance(config.regions, SAERegions)
    assert config.regions.contrast == PaperContrast(firing_threshold=0.9, min_frequency=3e-3)
    describer = config.describer
    assert isinstance(describer, Server)
    assert describer.model == "Qwen/Qwen2.5-VL-72B-Instruct"
    assert (describer.images_per_description, describer.temperature, describer.max_tokens) == (3, 0.01, 256)
    assert (config.collection.image_package, config.release.title) == ("cropped_256", "Bioscan-Traits")


@pytest.fixture(scope="module")
def bioscan(tmp_path_factory):
    """A drawn BIOSCAN-5M."""
    root = tmp_path_factory.mktemp("source") / "bioscan5m"
    return draw_bioscan(root, n_species=N_SPECIES, images_per_species=N_INDIVIDUALS)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """The tiny DINOv2."""
    return make_dinov2(tmp_path_factory.mktemp("models") / "dinov2-tiny")


@pytest.fixture(scope="module")
def finished(bioscan, backbone, tmp_path_factory):
    """The folder of a finished run, the estimate that was made in it before, and what there was after the estimate."""
    folder = tmp_path_factory.mktemp("runs") / "bioscan-traits"
    with describer_server() as server:
        command = recipe_command(bioscan, backbone, folder, server.base_url)
        with redirect_stdout(StringIO()) as output:
            assert main([*command, "--estimate", "--format", "json"]) == 0
        files = {path.name for path in folder.iterdir()}
        statistics = server.statistics()
        assert (statistics["n_requests"], statistics["n_probes"]) == (0, 0)
        assert main(list(command)) == 0
        assert server.n_requests() > 0
    return folder, json.loads(output.getvalue()), files


def test_an_estimate_reads_the_collection_and_no_more(finished):
    _, _, files = finished
    assert files - {".lock"} == {"config.yaml", "problems.csv", "images.parquet", "steps.json"}


def test_what_is_estimated_is_what_the_run_makes(finished):
    folder, estimate, _ = finished
    store = FeatureStore.open(folder / "activations")
    extraction = estimate["extraction"]
    assert (extraction["n_images"], extraction["n_patches"]) == (store.n_images, store.n_patches)
    headers = sum(entry.bytes for entry in store.entries) - extraction["n_bytes"]
    assert 0 < headers < HEADER_BYTES * extraction["n_shards"]
    training = SAE.from_pretrained(folder / "sae").config.training
    n_steps, batch_size = estimate["training"]["n_steps"], estimate["training"]["batch_size"]
    assert n_steps * batch_size == training["n_patches"]
    assert estimate["training"]["n_different_patches"] == training["n_images"] * store.n_patches / store.n_images
    assert estimate["training"]["flops"] == 10 * D_MODEL * 128 * training["n_patches"]


def test_what_is_described_is_within_the_bounds(finished):
    folder, estimate, _ = finished
    counts = json.loads((folder / "steps.json").read_text())["annotate"]["counts"]
    with Ledger(folder / "traits" / "ledger.sqlite") as ledger:
        n_calls = sum(Counter(call.state for call in ledger).values())
    assert estimate["n_traits"] == 5 * N_SPECIES * N_INDIVIDUALS
    assert estimate["annotation"]["n_calls"] == 5 * N_SPECIES * (1 + 1 + 1), "three training images share a call"
    assert 0.2 * estimate["n_traits"] < counts["n_traits"] <= estimate["n_traits"]
    assert n_calls <= estimate["n_traits"]
    files = [file for file in (folder / "dataset").rglob("*.parquet") if "preview" not in file.parts]
    written = sum(file.stat().st_size for file in files)
    assert 0.7 * written < estimate["dataset_bytes"] < 1.5 * written


def test_the_card_and_the_tables_are_those_of_the_real_release(finished):
    folder, _, _ = finished
    dataset = folder / "dataset"
    assert "\n# Bioscan-Traits\n" in (dataset / "README.md").read_text(encoding="utf-8")
    assert DatasetCard.load(dataset / "README.md").data.to_dict()["pretty_name"] == "Bioscan-Traits"
    for name in {*CONFIG_NAMES} - {"captions"}:
        (rows, *_) = load_dataset(str(dataset), name, cache_dir=str(folder / "cache")).values()
        assert rows.features == features(name)
        assert len(rows)


def test_every_row_says_whose_image_it_is_and_who_described_it(finished):
    folder, _, _ = finished
    splits = load_dataset(str(folder / "dataset"), cache_dir=str(folder / "cache"))
    rows: list[dict[str, Any]] = splits["train"].remove_columns("image").to_list()
    assert {row["license"] for row in rows} == {LICENSE}
    assert {row["rights_holder"] for row in rows} == {RIGHTS_HOLDER}
    assert all(row["source_url"].startswith(RECORD_URL + "DRAWN") for row in rows)
    assert {row["describer_model"] for row in rows} == {"Qwen/Qwen2.5-VL-72B-Instruct@unstated"}
    assert all(row["prompt"].startswith("agreement-") for row in rows)
    assert {row["n_images"] for row in rows} <= {1, 2, 3}
    assert max(row["n_images"] for row in rows) == 3
    assert {row["reference_rank"] for row in rows} == {"genus"}
    assert all(row["activation"] > 0.9 and row["f_species"] > row["f_reference"] > 3e-3 for row in rows)


def test_a_recipe_is_found_by_its_name_unless_a_file_has_it(bioscan, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["run", str(bioscan), "--out", "run", "--estimate", "--config", "bioscan-traits.yaml"]
    small = ["--backbone", "texture", "--workers", "0"]
    assert main([*command, *small]) == 0
    assert "6,104 steps of 16,384 patches" in capsys.readouterr().out
    Path("bioscan-traits.yaml").write_text("train: {batch_size: 1000, n_patches: 5000}\n")
    assert main([*command, *small]) == 0
    assert "5 steps of 1,000 patches" in capsys.readouterr().out
    assert main([*command, *small, "--config", "no/bioscan-traits.yaml"]) == 2
    assert "cannot read no/bioscan-traits.yaml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--teraflops", "100"], "for --estimate"),
        (["--estimate", "--teraflops", "-1"], "positive"),
        (["--estimate", "--images-per-description", "0"], "must be 1 or more"),
    ],
)
def test_an_estimate_that_cannot_be_made_says_why(bioscan, backbone, tmp_path, capsys, options, reason):
    command = recipe_command(bioscan, backbone, tmp_path / "run", "http://localhost:1/v1")
    assert main([*command, *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line
    assert not (tmp_path / "run").exists()


def test_a_given_sae_needs_no_training_and_a_faster_machine_less_time(finished, bioscan, backbone, tmp_path):
    folder, trained, _ = finished
    given = {
        "collection": {"source": str(bioscan)},
        "features": {"backbone": {"model": str(backbone)}, "stream": True, "workers": 0},
        "train": {"sae": str(folder / "sae")},
    }
    context = Context.create(tmp_path / "run", build(RunConfig, read_config(RECIPE), given), STEPS)
    run_steps(context, ["collect"])
    found = estimate_run(context, teraflops=10)
    assert found.training is None
    assert found.extraction.n_bytes == 0
    assert found.flops == trained["flops"] - trained["training"]["flops"]
    assert found.compute_hours == pytest.approx(found.flops / 1e13 / 3600)
    text = "\n".join(found.lines())
    assert "training    none: the SAE is given" in text
    assert "features    not kept" in text
    assert "at most one per trait" in text


@pytest.mark.slow
def test_the_whole_way_through_faults_and_a_kill_to_the_hub_and_back(backbone, tmp_path, hub, hub_environment):
    root = draw_bioscan(tmp_path / "bioscan5m", n_species=16, images_per_species=7)
    folder = tmp_path / "bioscan-traits"
    faults = {"error": 0.05, "malformed": 0.03, "dropped": 0.02, "truncated": 0.02}
    with describer_server(faults=faults, latency=0.05) as server:
        command = recipe_command(root, backbone, folder, server.base_url)
        few = [sys.executable, "-m", "sae_traits.cli", *command, "--in-flight", "4"]
        process = subprocess.Popen(few, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 300
        while server.n_requests() < 40 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "the kill came while regions were described"
        # An answer that cannot be used is asked for again by the next command, which exit code 3 says.
        finish = [sys.executable, "-m", "sae_traits.cli", *command]
        again = subprocess.run(finish, capture_output=True, text=True, timeout=600)
        while again.returncode == 3 and time.monotonic() < deadline:
            again = subprocess.run(finish, capture_output=True, text=True, timeout=600)
        assert again.returncode == 0, again.stderr
        assert "train: complete" in again.stderr
        assert server.statistics()["again_after_ok"] <= 4, "those that were in flight when the run was killed"

    repos = ["--model-repo", "museum/bioscan-sae", "--dataset-repo", "museum/bioscan-traits"]
    arguments = [sys.executable, "-m", "sae_traits.cli", "publish", str(folder), *repos]
    published = subprocess.run(arguments, env=hub_environment, capture_output=True, text=True)
    assert published.returncode == 0, published.stderr
    code = """
import json
from collections import Counter
from datasets import load_dataset
from huggingface_hub import DatasetCard
from sae_traits import SAE
rows = load_dataset("museum/bioscan-traits", split="train")
name, revision = rows[0]["sae"].split("@")
sae = SAE.from_pretrained(name, revision=revision)
card = DatasetCard.load("museum/bioscan-traits")
splits = list(load_dataset("museum/bioscan-traits", "images"))
print(json.dumps([len(rows), name, sae.config.n_latents, sae.config.backbone.layer, card.data.pretty_name, splits]))
"""
    found = subprocess.run([sys.executable, "-c", code], env=hub_environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    n_rows, name, n_latents, layer, title, splits = json.loads(found.stdout.splitlines()[-1])
    records = Collection.load(folder / "images.parquet").images
    traits = read_traits(folder / "traits" / "traits.parquet")
    n_train = sum(records[trait.candidate.image].split == "train" for trait in traits)
    assert (n_rows, name, n_latents, layer, title) == (n_train, "museum/bioscan-sae", 128, 11, "Bioscan-Traits")
    assert sorted(splits) == ["test", "train", "validation"]
