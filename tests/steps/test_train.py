"""The training step of a run: straight from images, sweeps, trackers, several processes, compiled."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from drawn_collections import some_of
from kept_tracker import KeptTracker

from sae_traits import SAE, TopK, TrainConfig
from sae_traits.cli import main
from sae_traits.errors import CheckpointError
from sae_traits.runs.context import Context
from sae_traits.sae.collection_training import train_on_source
from sae_traits.sae.measuring import measure_on_held_out
from sae_traits.sae.stability import mean_stability
from sae_traits.sae.sweep import MARGIN
from sae_traits.steps import STEPS

SCRIPTS = Path(__file__).parents[2] / "scripts"
SCRIPT = SCRIPTS / "train_sae.py"
TWO_PROCESSES = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
ON_THE_CPU = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}

SMALL = [
    "--backbone", "texture", "--n-latents", "128", "--k", "8", "--n-patches", "20000", "--batch-size", "512",
    "--workers", "0",
]  # fmt: skip


@pytest.fixture(scope="module")
def drawn(whole_drawn, tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "collection"
    return some_of(whole_drawn, folder, n_species=9, images_per_species=3)


@pytest.fixture(scope="module")
def extracted(drawn, tmp_path_factory):
    """A run with features and an SAE."""
    folder = tmp_path_factory.mktemp("runs") / "extracted"
    assert main(["extract", str(drawn), "--out", str(folder), "--backbone", "texture", "--workers", "0"]) == 0
    return folder


def test_a_run_straight_from_images_keeps_no_features_and_gives_traits_all_the_same(drawn, tmp_path, capsys):
    folder = tmp_path / "streamed"
    assert main(["run", str(drawn), "--out", str(folder), "--stream", "--describer-workers", "1", *SMALL]) == 0
    assert not (folder / "activations").exists()
    steps = json.loads((folder / "steps.json").read_text())
    assert steps["annotate"]["counts"]["n_traits"] > 50
    assert steps["train"]["counts"]["explained_variance"] > 0.3
    capsys.readouterr()
    assert main(["run", str(drawn), "--out", str(folder), "--stream", "--describer-workers", "1", *SMALL]) == 0
    assert capsys.readouterr().err.count("skipped") == len(STEPS)


def test_the_estimate_is_what_the_shards_take(drawn, extracted, tmp_path, capsys):
    arguments = ["extract", str(drawn), "--out", str(tmp_path / "e"), "--backbone", "texture", "--workers", "0"]
    assert main([*arguments, "--estimate", "--format", "json"]) == 0
    estimate = json.loads(capsys.readouterr().out)
    shards = list((extracted / "activations").glob("*.safetensors"))
    written = sum(shard.stat().st_size for shard in shards)
    assert len(shards) == estimate["n_shards"]
    assert 0 < written - estimate["n_bytes"] < 1024 * len(shards)
    assert not (tmp_path / "e" / "activations").exists()
    assert main([*arguments, "--estimate"]) == 0
    assert "patches" in capsys.readouterr().out


def test_a_sweep_has_a_folder_an_sae_and_the_recommended_one_at_the_root(extracted, capsys):
    options = [*SMALL[2:], "--sweep", "architecture=topk,batch_topk k=4,8"]
    options = [o for pair in zip(options[::2], options[1::2], strict=True) if pair[0] != "--workers" for o in pair]
    assert main(["train", str(extracted), *options, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"]["train"]["n_saes"] == 4
    folder = extracted / "sae"
    sweep = json.loads((folder / "sweep.json").read_text())
    names = {row["folder"] for row in sweep["saes"]}
    assert names == {"topk-k4", "topk-k8", "batch_topk-k4", "batch_topk-k8"}
    root = SAE.from_pretrained(folder)
    recommended = SAE.from_pretrained(folder, subfolder=sweep["recommended"])
    assert torch.equal(root.W_dec, recommended.W_dec)
    scores = {row["folder"]: row["metrics"]["monosemanticity"]["mean_with_zeros"] for row in sweep["saes"]}
    assert scores[sweep["recommended"]] >= max(scores.values()) - MARGIN
    assert SAE.from_pretrained(folder, subfolder="topk-k4").config.k == 4
    assert main(["train", str(extracted), "--sweep", "batch_size=1,2"]) == 2
    assert "cannot vary batch_size" in capsys.readouterr().err


def test_a_tracker_that_is_not_installed_is_explained(extracted, capsys):
    assert main(["train", str(extracted), "--tracker", "nothing_like_it"]) == 2
    assert "is not installed" in capsys.readouterr().err


def test_a_damaged_shard_is_named_before_training(extracted, tmp_path, capsys):
    run = Path(shutil.copytree(extracted, tmp_path / "run"))
    shard = run / "activations" / "shard-00000.safetensors"
    content = bytearray(shard.read_bytes())
    content[-5] ^= 0xFF
    shard.write_bytes(content)
    assert main(["train", str(run), "--n-patches", "30000"]) == 1
    message = capsys.readouterr().err
    assert "shard-00000.safetensors" in message
    assert "extract" in message


def test_a_later_training_is_not_bound_by_the_sweep_before(extracted, tmp_path, capsys):
    run = Path(shutil.copytree(extracted, tmp_path / "run"))
    options = ["--n-latents", "64", "--n-patches", "5000", "--batch-size", "512", "--format", "json"]
    assert main(["train", str(run), "--sweep", "k=2,4", *options]) == 0
    capsys.readouterr()
    assert main(["train", str(run), "--k", "3", *options]) == 0
    assert json.loads(capsys.readouterr().out)["steps"]["train"]["n_saes"] == 1
    assert SAE.from_pretrained(run / "sae").config.k == 3
    assert not (run / "sae" / "sweep.json").exists()


def test_seeds_of_a_setting_are_compared_and_settings_are_not(extracted, tmp_path):
    run = Path(shutil.copytree(extracted, tmp_path / "run"))
    options = ["--n-latents", "64", "--n-patches", "5000", "--batch-size", "512"]
    assert main(["train", str(run), "--sweep", "k=2,4 seed=0,1,2", *options]) == 0
    sweep = json.loads((run / "sae" / "sweep.json").read_text())
    found = {row["folder"]: row["metrics"]["stability"] for row in sweep["saes"]}
    for k in (2, 4):
        folders = [f"topk-k{k}-seed{seed}" for seed in range(3)]
        saes = [SAE.from_pretrained(run / "sae" / folder) for folder in folders]
        context = Context.open(run, STEPS)
        fired = measure_on_held_out(saes, context.features, context.collection, torch.device("cpu"))
        expected = asdict(mean_stability(saes, live=fired)) | {"seeds": [0, 1, 2]}
        assert [found[folder] for folder in folders] == [expected] * 3
        assert expected["n_matched"] > 30
    assert found["topk-k2-seed0"] != found["topk-k4-seed0"]
    assert main(["train", str(run), "--sweep", "k=2,4", *options]) == 0
    sweep = json.loads((run / "sae" / "sweep.json").read_text())
    assert not any("stability" in row["metrics"] for row in sweep["saes"])


@pytest.mark.parametrize("learning_rate", [1e-3, 1e30])
def test_a_tracker_is_closed_also_when_training_fails(extracted, tmp_path, learning_rate):
    context, kept = Context.open(extracted, STEPS), KeptTracker()
    config = TrainConfig(
        architecture=TopK(k=4),
        n_latents=64,
        n_patches=5000,
        batch_size=2048,
        learning_rate=learning_rate,
        tracker="kept",
    )

    def train():
        train_on_source(
            context.features,
            context.collection.rows("train"),
            config,
            [config],
            collection="drawn",
            checkpoint=tmp_path / "training.checkpoint",
            accelerator=Accelerator(cpu=True, log_with=[kept]),
        )

    if learning_rate < 1:
        train()
    else:
        with pytest.raises(CheckpointError, match="diverged"):
            train()
    assert list(kept.steps) == ([1, 2, 3] if learning_rate < 1 else [1, 2])  # at which it has diverged
    assert kept.finished


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True])
def test_two_processes_share_the_measuring_and_measure_as_one(drawn, tmp_path, stream):
    folder = tmp_path / "run"
    features = ["--backbone", "texture", "--workers", "0", *(["--stream"] if stream else [])]
    assert main(["extract", str(drawn), "--out", str(folder), *features]) == 0
    options = ["--n-latents", "64", "--n-patches", "20000", "--batch-size", "512", "--sweep", "k=2,4,8 seed=0,1"]
    subprocess.run([*TWO_PROCESSES, SCRIPT, folder, *options], check=True, env=ON_THE_CPU, timeout=300)
    sweep = json.loads((folder / "sae" / "sweep.json").read_text())
    assert len(sweep["saes"]) == 6
    context = Context.open(folder, STEPS)
    saes = [SAE.from_pretrained(folder / "sae" / row["folder"]) for row in sweep["saes"]]
    together = [row["metrics"] for row in sweep["saes"]]
    assert all(metrics.pop("stability")["seeds"] == [0, 1] for metrics in together)
    measure_on_held_out(saes, context.features, context.collection, torch.device("cpu"))
    assert together == [sae.config.training["metrics"] for sae in saes]
    assert together[4]["explained_variance"] > 0.3


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="inductor needs a C++ compiler")
def test_a_compiled_training_has_the_losses_of_one_that_is_not(extracted, tmp_path):
    run = Path(shutil.copytree(extracted, tmp_path / "run"))
    options = ["--n-latents", "64", "--k", "4", "--n-patches", "20000", "--batch-size", "512"]
    curves = []
    for backend in ("no", "inductor"):
        launcher = ["--cpu", "--num_processes", "1", "--num_machines", "1", "--mixed_precision", "no"]
        command = [sys.executable, "-m", "accelerate.commands.launch", *launcher, "--dynamo_backend", backend]
        shutil.rmtree(run / "sae", ignore_errors=True)
        subprocess.run([*command, SCRIPT, run, *options], check=True, env=ON_THE_CPU, timeout=600)
        curves.append(SAE.from_pretrained(run / "sae").config.training["curve"])
    assert len(curves[0]["loss"]) == 40
    assert curves[1]["loss"] == pytest.approx(curves[0]["loss"], abs=1e-4)
    assert curves[1]["explained_variance"][-1] > 0.2


@pytest.mark.slow
def test_two_processes_extract_and_train_as_one(drawn, extracted, tmp_path):
    options = [drawn, "--out", tmp_path / "run", "--backbone", "texture", "--workers", "0"]
    command = [*TWO_PROCESSES, SCRIPTS / "extract_features.py", *options]
    refused = subprocess.run(command, check=False, env=ON_THE_CPU, timeout=300, capture_output=True, text=True)
    assert "the images are not read yet; give `sae-traits collect SOURCE" in refused.stderr
    assert main(["collect", *map(str, options)]) == 0
    subprocess.run(command, check=True, env=ON_THE_CPU, timeout=300)
    one, two = Context.open(extracted, STEPS), Context.open(tmp_path / "run", STEPS)
    assert two.features.fingerprint == one.features.fingerprint
    for shard in sorted((extracted / "activations").glob("*.safetensors")):
        assert (tmp_path / "run" / "activations" / shard.name).read_bytes() == shard.read_bytes()
    options = ["--n-latents", "64", "--k", "4", "--n-patches", "20000", "--batch-size", "512"]
    subprocess.run([*TWO_PROCESSES, SCRIPT, tmp_path / "run", *options], check=True, env=ON_THE_CPU, timeout=300)
    alone = Path(shutil.copytree(extracted, tmp_path / "alone"))
    assert main(["train", str(alone), *options]) == 0
    losses = [SAE.from_pretrained(run / "sae").config.training["curve"]["loss"] for run in (alone, tmp_path / "run")]
    assert len(losses[0]) == 40
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
