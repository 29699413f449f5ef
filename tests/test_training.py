"""The training step of a run: straight from images, sweeps, trackers."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from sae_traits import SAE
from sae_traits.cli import main
from sae_traits.collections.drawn import draw_collection

SMALL = [
    "--backbone", "texture", "--n-latents", "128", "--k", "8", "--n-patches", "20000", "--batch-size", "512",
    "--workers", "0",
]  # fmt: skip


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "collection"
    draw_collection(folder, specimens_per_species=3, workers=1)
    return folder


@pytest.fixture(scope="module")
def extracted(drawn, tmp_path_factory):
    """A run with features and an SAE."""
    folder = tmp_path_factory.mktemp("runs") / "extracted"
    assert main(["extract", str(drawn), "--out", str(folder), "--backbone", "texture", "--workers", "0"]) == 0
    return folder


def test_a_run_straight_from_images_keeps_no_features_and_gives_traits_all_the_same(drawn, tmp_path, capsys):
    folder = tmp_path / "streamed"
    assert main(["run", str(drawn), "--out", str(folder), "--stream", "--describe-workers", "1", *SMALL]) == 0
    assert not (folder / "activations").exists()
    steps = json.loads((folder / "steps.json").read_text())
    assert steps["annotate"]["counts"]["n_traits"] > 50
    assert steps["train"]["counts"]["explained_variance"] > 0.3
    capsys.readouterr()
    assert main(["run", str(drawn), "--out", str(folder), "--stream", "--describe-workers", "1", *SMALL]) == 0
    assert capsys.readouterr().err.count("skipped") == 7


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
    assert scores[sweep["recommended"]] == max(scores.values())
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
