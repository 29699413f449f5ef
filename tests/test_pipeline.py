"""The whole way on drawn images, as a person walks it: again, after a kill, on a full disk, to the Hub and back."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from clip_folders import make_open_clip_folder
from PIL import Image

from sae_traits.cli import main
from sae_traits.config.layers import read_config
from sae_traits.schema import Collection
from sae_traits.testbench.demo import DRAWN_CLIP
from sae_traits.testbench.drawn import draw_collection
from sae_traits.traits.table import read_traits

SMALL = [
    "--backbone", "texture", "--n-latents", "256", "--k", "8", "--n-patches", "60000", "--batch-size", "512",
    "--workers", "0", "--describe-workers", "1", "--longest-side", "128",
]  # fmt: skip
CARD = "README.md"
"""It says how long each step took, and what an evaluation found, so that two runs never have the same."""
STEPS = ["collect", "extract", "train", "encode", "annotate", "release", "evaluate"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Sixteen drawn species, five images each."""
    folder = tmp_path_factory.mktemp("drawn") / "collection"
    draw_collection(folder, images_per_species=5, workers=1)
    return folder


@pytest.fixture(scope="module")
def finished(drawn, tmp_path_factory):
    """A finished run."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    assert main(["run", str(drawn), "--out", str(folder), *SMALL]) == 0
    return folder


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the finished run, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def content(folder, *without):
    """Hash of every file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in without
    }


def command(*arguments):
    return [sys.executable, "-m", "sae_traits.cli", *map(str, arguments)]


def test_a_run_makes_everything_that_the_house_promises(finished):
    for name in (
        "config.yaml", "images.parquet", "problems.csv", "steps.json", "activations/index.json", "sae/config.json",
        "sae/model.safetensors", "sae/README.md", "codes/index.json", "traits/ledger.sqlite", "traits/traits.parquet",
        "traits/latents.parquet", "dataset/README.md", "evaluation/results.json", "evaluation/report.md",
        "evaluation/figures/regions.png",
    ):  # fmt: skip
        assert (finished / name).is_file(), name
    results = json.loads((finished / "evaluation/results.json").read_text())
    assert results["drawn"]["recall"][0]["regions"]["low"] > results["drawn"]["recall"][0]["random"]["high"]
    assert results["on_animal"]["gain"]["low"] > 0
    assert results["sae"]["explained_variance"] > 0.3


def test_the_same_command_again_skips_every_step_and_changes_nothing(finished, drawn, capsys):
    before = content(finished)
    times = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.name != "config.yaml"}
    assert main(["run", str(drawn), "--out", str(finished), *SMALL]) == 0
    captured = capsys.readouterr()
    assert [line.split(":")[0] for line in captured.err.splitlines() if "skipped" in line] == STEPS
    assert "run " in captured.out
    assert content(finished) == before
    files = {path: path.stat().st_mtime_ns for path in times if path.is_file()}
    assert files == {path: t for path, t in times.items() if path.is_file()}


def test_a_changed_option_repeats_only_the_steps_that_depend_on_it(run, capsys):
    features = (run / "activations" / "shard-00000.safetensors").stat().st_mtime_ns
    assert main(["annotate", str(run), "--traits-per-image", "2"]) == 0
    captured = capsys.readouterr()
    assert "encode: complete" in captured.err
    assert "annotate: done" in captured.err
    assert "release: done" in captured.err
    assert "report" not in captured.out, "the evaluation is of the traits before"
    assert (run / "activations" / "shard-00000.safetensors").stat().st_mtime_ns == features
    assert main(["train", str(run), "--k", "4", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"]["train"]["l0"] <= 4


def test_a_step_done_anew_leaves_no_later_step_finished(run, capsys):
    assert main(["train", str(run), "--k", "4"]) == 0
    capsys.readouterr()
    for arguments in (["evaluate", str(run)], ["publish", str(run), "--model-repo", "a/b", "--dataset-repo", "a/c"]):
        assert main(arguments) == 1
        assert "'release' is not finished" in capsys.readouterr().err


def test_a_lost_file_is_made_again(run, finished, capsys):
    (run / "activations" / "shard-00001.safetensors").unlink()
    next((run / "codes").glob("part-*")).unlink()
    assert main(["run", read_source(run), "--out", str(run), *SMALL]) == 0
    assert content(run / "dataset", CARD) == content(finished / "dataset", CARD)
    capsys.readouterr()


def read_source(folder):
    return read_config(folder / "config.yaml")["collection"]["source"]


def test_an_image_that_was_away_is_described_when_it_is_back(drawn, tmp_path, capsys):
    source = Path(shutil.copytree(drawn, tmp_path / "source"))
    folder = tmp_path / "run"
    arguments = [str(folder), "--config", str(tmp_path / "options.yaml")]
    (tmp_path / "options.yaml").write_text(
        "features: {backbone: texture, workers: 0}\ntrain: {n_latents: 64, k: 4, n_patches: 4000, batch_size: 512}\n"
        "describe: {describe_workers: 1}\n"
    )
    assert main(["extract", str(source), "--out", *arguments]) == 0
    assert main(["train", *arguments]) == 0
    image = next((source / "images").rglob("*.png"))
    image.rename(tmp_path / "away.png")
    assert main(["annotate", *arguments]) == 1, "the dataset cannot be written without the image"
    assert str(image) in capsys.readouterr().err
    (tmp_path / "away.png").rename(image)
    assert main(["annotate", *arguments]) == 0
    assert "80 of 80 images" in capsys.readouterr().out


def test_what_does_not_work_is_not_kept_in_the_configuration(run, capsys):
    before = (run / "config.yaml").read_bytes()
    assert main(["evaluate", str(run), "--clip", "no/such/clip/anywhere"]) == 1
    assert main(["train", str(run), "--sae", "no/such/sae/anywhere"]) == 1
    assert (run / "config.yaml").read_bytes() == before
    capsys.readouterr()


def test_images_without_a_licence_are_warned_of_before_they_are_published(run, capsys):
    collection = Collection.load(run / "images.parquet")
    bare = tuple(replace(record, license=None) for record in collection.images[:3])
    replace(collection, images=bare + collection.images[3:]).save(run / "images.parquet")
    arguments = ["publish", str(run), "--model-repo", "a/b", "--dataset-repo", "a/c", "--dry-run"]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert "warning: 3 of 80 images have no licence" in captured.err
    assert "nothing was uploaded" in captured.out


def test_the_papers_contrast_runs_the_same_way(run, capsys):
    arguments = ["--contrast", "paper", "--firing-threshold", "0.2", "--minimum-frequency", "1e-4"]
    assert main(["annotate", str(run), *arguments]) == 0
    assert "traits" in capsys.readouterr().out


def test_a_given_sae_is_used_with_its_own_backbone_and_not_trained(finished, drawn, tmp_path, capsys):
    arguments = ["run", str(drawn), "--out", str(tmp_path / "adopted"), "--sae", str(finished / "sae")]
    assert main([*arguments, "--workers", "0", "--describe-workers", "1"]) == 0
    assert "train: step" not in capsys.readouterr().err
    weights = "sae/model.safetensors"
    assert (tmp_path / "adopted" / weights).read_bytes() == (finished / weights).read_bytes()
    traits = "traits/traits.parquet"
    assert (tmp_path / "adopted" / traits).read_bytes() == (finished / traits).read_bytes()


def test_one_step_at_a_time_gives_the_same_dataset(finished, drawn, tmp_path):
    folder = tmp_path / "steps"
    (tmp_path / "options.yaml").write_text(
        "train: {n_latents: 256, k: 8, n_patches: 60000, batch_size: 512}\n"
        "describe: {describe_workers: 1}\nrelease: {longest_side: 128}\n"
        "features: {backbone: texture, workers: 0}\n"
    )
    assert main(["extract", str(drawn), "--out", str(folder), "--config", str(tmp_path / "options.yaml")]) == 0
    assert main(["train", str(folder)]) == 0
    assert main(["annotate", str(folder)]) == 0
    assert content(folder / "dataset", CARD) == content(finished / "dataset", CARD)


KILL_POINTS = [
    "images.parquet",
    "activations/shard-00000.safetensors",
    "sae/config.json",
    "codes/thresholds.parquet",
    "traits/ledger.sqlite-wal",
    "traits/traits.parquet",
    "dataset/README.md",
]


@pytest.mark.parametrize(
    "point", [p if p in KILL_POINTS[1:6:3] else pytest.param(p, marks=pytest.mark.slow) for p in KILL_POINTS]
)
def test_a_run_that_was_killed_ends_with_the_same_dataset(finished, drawn, tmp_path, point):
    folder = tmp_path / "killed"
    arguments = command("run", drawn, "--out", folder, *SMALL)
    process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (folder / point).exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert (folder / point).exists()
    assert not (folder / "evaluation/results.json").exists(), "the kill came before the end"
    again = subprocess.run(arguments, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert content(folder / "dataset", CARD) == content(finished / "dataset", CARD)
    assert content(folder / "sae", CARD) == content(finished / "sae", CARD)
    assert content(folder / "codes") == content(finished / "codes")


def test_the_results_load_offline_in_a_fresh_interpreter(finished):
    code = f"""
import json, sys
from datasets import load_dataset
from PIL import Image
from sae_traits import SAE, load_extractor
traits = load_dataset({str(finished / "dataset")!r})
row = traits["train"][0]
images = load_dataset({str(finished / "dataset")!r}, "images", split="train")
sae = SAE.from_pretrained({str(finished / "sae")!r})
features, grid = load_extractor(sae)(images[0]["image"].convert("RGB"))
codes = sae.encode(features)
x, y, width, height = row["box"]
assert 0 <= x and x + width <= row["image"].width + 1e-3 and y + height <= row["image"].height + 1e-3
print(json.dumps([{{k: len(v) for k, v in traits.items()}}, codes.shape, len(grid.valid), int(row["latent"])]))
"""
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": str(finished / ".." / "hf"),
    }
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    splits, shape, n_valid, latent = json.loads(found.stdout)
    assert set(splits) == {"train", "test"} or set(splits) == {"train", "validation", "test"}
    n_traits = json.loads((finished / "steps.json").read_text())["annotate"]["counts"]["n_traits"]
    assert sum(splits.values()) == n_traits
    assert shape == [n_valid, 256]
    assert 0 <= latent < 256


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
streamed = next(iter(load_dataset("museum/drawn-traits", "records", split="train", streaming=True)))
print(json.dumps([len(traits), name, sae.config.n_latents, streamed["species"], len(streamed["traits"])]))
"""
    found = subprocess.run([sys.executable, "-c", code], env=hub_environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    n_rows, name, n_latents, species, n_traits = json.loads(found.stdout)
    assert (name, n_latents) == ("museum/drawn-sae", 256)
    assert n_rows > 50
    assert species
    assert 1 <= n_traits <= 5


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
@pytest.mark.parametrize(
    "kilobytes", [5500, *(pytest.param(n, marks=pytest.mark.slow) for n in (64, 1000, 5100, 5300, 5700, 6000, 7000))]
)
def test_a_full_disk_is_one_clear_line_and_the_run_goes_on_when_there_is_room(drawn, finished, tmp_path, kilobytes):
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(small)]
    mounted = subprocess.run(mount, capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.decode().strip()}")
    arguments = command("run", drawn, "--out", small / "run", *SMALL)
    try:
        found = subprocess.run(arguments, capture_output=True, text=True)
        line = found.stderr.strip().splitlines()[-1]
        assert found.returncode == 1, found.stderr
        assert line.startswith("sae-traits run:")
        assert "full" in line or "No space left" in line
        assert "Traceback" not in found.stderr
        subprocess.run(["mount", "-o", "remount,size=100m", str(small)], check=True)
        again = subprocess.run(arguments, capture_output=True, text=True)
        assert again.returncode == 0, again.stderr
        assert content(small / "run" / "dataset", CARD) == content(finished / "dataset", CARD)
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_finished_run_is_evaluated_with_a_clip_in_bioclips_format(run, tmp_path, capsys):
    make_open_clip_folder(tmp_path / "clip", seed=0)
    assert main(["evaluate", str(run), "--clip", str(tmp_path / "clip")]) == 0
    captured = capsys.readouterr()
    assert "zero-shot name only" in captured.out
    results = json.loads((run / "evaluation/results.json").read_text())["zero_shot"]
    assert results["clip"]["layout"] == "open_clip"
    assert not results["above_chance"]
    assert results["conditions"][0]["condition"] == "name only"
    report = (run / "evaluation/report.md").read_text()
    assert "The comparison means nothing" in report or "too few to tell" in report
    assert (run / "evaluation/figures/zero_shot.png").is_file()
    assert main(["evaluate", str(run), "--clip", str(tmp_path / "clip")]) == 0
    assert "evaluate: complete" in capsys.readouterr().err


def test_a_run_without_a_clip_says_how_to_evaluate(finished, capsys):
    assert main(["evaluate", str(finished)]) == 0
    assert f"sae-traits evaluate {finished} --clip" in capsys.readouterr().out


def test_a_clip_that_cannot_be_used_is_one_clear_line(run, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["evaluate", str(run), "--clip", str(tmp_path / "empty")]) == 1
    assert "open_clip_config.json" in capsys.readouterr().err


def test_the_clip_of_the_drawn_world_is_refused_on_anything_else(tmp_path, capsys):
    images = tmp_path / "photographs"
    for number in range(12):
        folder = images / f"Verus_{['primus', 'secundus'][number % 2]}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((64, 64), 30 + 40 * (number % 2)).convert("RGB").save(folder / f"{number}.png")
    arguments = ["run", str(images), "--out", str(tmp_path / "run"), *SMALL, "--clip", str(DRAWN_CLIP)]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "drawn, invented insects" in error
    assert "started" not in error, "it is said before anything is done"


def test_latents_are_shown_with_their_strongest_images(run, capsys):
    assert main(["latents", str(run), "--strongest", "3"]) == 0
    files = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [file.name for file in files[:2]] == ["latents.csv", "images.csv"]
    assert len(files) > 3
    assert all(file.is_file() and file.parent == run / "latents" for file in files)
    assert main(["latents", str(run), "100000"]) == 2
    assert "100000" in capsys.readouterr().err


def test_the_cost_of_describing_is_estimated_without_asking(run, capsys):
    arguments = ["annotate", str(run), "--estimate", "--format", "json", "--describer", "server"]
    assert main([*arguments, "--describer-model", "m", "--prompt-price", "1.0"]) == 0
    estimate = json.loads(capsys.readouterr().out)
    assert estimate["n_calls"] == json.loads((run / "steps.json").read_text())["annotate"]["counts"]["n_traits"]
    assert estimate["n_finished"] == 0
    assert estimate["prompt_tokens"] > 100 * estimate["n_calls"]


def test_masks_change_measures_alone_and_only_when_asked_for(run, capsys):
    plain = {trait.trait_id: trait for trait in read_traits(run / "traits/traits.parquet")}
    assert {trait.measurement.on_animal for trait in plain.values()} == {None}
    assert main(["annotate", str(run), "--use-masks"]) == 0
    assert "encode: complete" in capsys.readouterr().err
    masked = {trait.trait_id: trait for trait in read_traits(run / "traits/traits.parquet")}
    assert {name: trait.region for name, trait in masked.items()} == {n: trait.region for n, trait in plain.items()}
    shares = [trait.measurement.on_animal for trait in masked.values() if trait.measurement.on_animal is not None]
    assert len(shares) == len(masked)
    assert sum(shares) > 0.5 * len(masked)
    assert "animals' pixels alone" in (run / "dataset/README.md").read_text()


def test_masks_that_no_image_has_are_refused(run, capsys):
    collection = Collection.load(run / "images.parquet")
    unmasked = tuple(replace(record, mask_file=None) for record in collection.images)
    replace(collection, images=unmasked).save(run / "images.parquet")
    assert main(["annotate", str(run), "--use-masks"]) == 2
    assert "no image of the collection has a mask" in capsys.readouterr().err


def test_boxes_get_their_margin_and_specks_go(run):
    tight = {trait.trait_id: trait.region for trait in read_traits(run / "traits/traits.parquet")}
    assert main(["annotate", str(run), "--box-margin", "0.25", "--smallest-region", "2"]) == 0
    found = {trait.trait_id: trait.region for trait in read_traits(run / "traits/traits.parquet")}
    assert any(len(region.patches) == 1 for region in tight.values())
    assert all(len(region.patches) >= 2 for region in found.values())
    same = [name for name in found if name in tight and found[name].patches == tight[name].patches]
    assert same
    for name in same:
        assert found[name].polygons == tight[name].polygons
        assert found[name].box[2] > tight[name].box[2]


def test_options_that_would_have_no_effect_are_refused(run, capsys):
    assert main(["train", str(run), "--architecture", "relu", "--k", "4"]) == 2
    assert "--k has no effect" in capsys.readouterr().err
    assert main(["train", str(run), "--sae", str(run / "sae"), "--n-latents", "64"]) == 2
    assert "leave out --n-latents" in capsys.readouterr().err


def test_a_lost_sae_is_trained_again(run, capsys):
    (run / "sae" / "model.safetensors").unlink()
    assert main(["train", str(run)]) == 0
    assert "train: done" in capsys.readouterr().err
    assert (run / "sae" / "model.safetensors").is_file()


def test_controls_are_asked_kept_shown_and_not_asked_again(run, capsys):
    assert main(["controls", str(run), "--n", "20", "--format", "json"]) == 0
    controls = json.loads(capsys.readouterr().out)
    scores = {score["kind"]: score for score in controls["scores"]}
    assert (controls["n_traits"], controls["n_open"]) == (20, 0)
    assert (scores["same"]["n_answered"], scores["same"]["n_changed"]) == (20, 0)
    assert scores["blank"]["changed_share"] > 0.5
    assert main(["controls", str(run), "--n", "20"]) == 0
    found = capsys.readouterr()
    assert "describe:" not in found.err
    assert "| blank |" in found.out
    assert main(["evaluate", str(run)]) == 0
    assert "20 traits were asked about again" in (run / "evaluation/report.md").read_text()
    assert json.loads((run / "evaluation/results.json").read_text())["quality"]["controls"]["n_traits"] == 20
    kept = json.loads((run / "traits/controls.json").read_text())
    (run / "traits/controls.json").write_text(json.dumps(kept | {"annotate": "another fingerprint"}))
    assert main(["evaluate", str(run)]) == 0
    assert "asked about again" not in (run / "evaluation/report.md").read_text(), "they were of another annotation"


def test_controls_that_cannot_be_asked_say_why(run, capsys):
    model = ["--describer", "server", "--describer-model", "m"]
    for options, reason in (
        (["--n", "0"], "at least one trait"),
        (model, "none of the traits was made by server with m@unstated"),
        ([*model, "--prompt", "whole"], "--prompt whole shows none"),
        ([*model, "--images-per-description", "3"], "--images-per-description 1"),
    ):
        assert main(["controls", str(run), *options]) == 2
        assert reason in capsys.readouterr().err
    assert not (run / "traits" / "controls.json").exists()
