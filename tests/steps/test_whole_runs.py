"""The whole way on drawn images, as a person walks it: again, after a kill, on a full disk, with files lost."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from drawn_collections import some_of
from opened_files import counting_opens
from steps.small_runs import CARD, N_SPECIES, OPTIONS, SMALL, STEP_NAMES, command, content

from sae_traits.cli import main
from sae_traits.runs import lock
from sae_traits.schema import Collection


def test_a_run_makes_everything_that_the_house_promises(finished):
    for name in (
        "config.yaml", "images.parquet", "problems.csv", "steps.json", "activations/index.json", "sae/config.json",
        "sae/model.safetensors", "sae/README.md", "codes/index.json", "traits/ledger.sqlite", "traits/traits.parquet",
        "traits/latents.parquet", "dataset/README.md", "evaluation/results.json", "evaluation/report.md",
        "evaluation/figures/regions.png",
    ):  # fmt: skip
        assert (finished / name).is_file(), name
    results = json.loads((finished / "evaluation/results.json").read_text())
    assert results["tasks"]["localisation"]["gain"]["low"] > 0
    assert results["sae"]["explained_variance"] > 0.3
    assert list(json.loads((finished / "steps.json").read_text())) == STEP_NAMES


def test_the_card_has_the_results_of_the_run_that_wrote_it(finished):
    results = json.loads((finished / "evaluation/results.json").read_text())
    on_animal = results["tasks"]["localisation"]["on_animal"]["mean"]
    card = (finished / "dataset/README.md").read_text()
    assert f"by its mask, or its box where there is no mask (95 % interval) | {on_animal:.3f}" in card
    assert "| firing_quantile | 0.7 |" in card, "which nobody gave: it is that of 16 x 16 patches"


def test_a_changed_option_repeats_only_the_steps_that_depend_on_it(run, capsys):
    features = (run / "activations" / "shard-00000.safetensors").stat().st_mtime_ns
    assert main(["annotate", str(run), "--traits-per-image", "2"]) == 0
    captured = capsys.readouterr()
    assert "encode: complete" in captured.err
    assert "annotate: done" in captured.err
    assert "dataset: done" in captured.err
    assert "cards: done" in captured.err
    assert "report" not in captured.out, "the evaluation is of the traits before"
    assert (run / "activations" / "shard-00000.safetensors").stat().st_mtime_ns == features
    assert main(["train", str(run), "--k", "4", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"]["train"]["l0"] <= 4


def test_a_step_done_anew_leaves_no_later_step_finished(run, capsys):
    assert main(["train", str(run), "--k", "4"]) == 0
    capsys.readouterr()
    publish = ["publish", str(run), "--model-repo", "a/b", "--dataset-repo", "a/c"]
    for step, arguments in {"annotate": ["evaluate", str(run)], "cards": publish}.items():
        assert main(arguments) == 1
        assert f"{step!r} is not finished" in capsys.readouterr().err


OUTPUTS = {
    "collect": "images.parquet",
    "extract": "activations/shard-00001.safetensors",
    "train": "sae/model.safetensors",
    "encode": "codes/part-00001.parquet",
    "annotate": "traits/traits.parquet",
    "evaluate": "evaluation/figures/regions.png",
    "dataset": "dataset/data/latents/train-000000000000-000.parquet",
    "cards": "dataset/README.md",
}
"""One of the files that each step writes."""


def damage(file):
    """Change a byte in the middle of a file, which keeps its size."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("harm", [pytest.param(Path.unlink, id="deleted"), pytest.param(damage, id="damaged")])
def test_a_lost_or_damaged_file_of_any_step_is_noticed_and_made_again(run, drawn, finished, capsys, harm):
    for file in OUTPUTS.values():
        harm(run / file)
    assert main(["run", str(drawn), "--out", str(run), *SMALL]) == 0
    said = capsys.readouterr().err
    for step, file in OUTPUTS.items():
        assert f"{step}: {run / file} is missing or not as it was written" in said, step
    assert content(run / "dataset", CARD) == content(finished / "dataset", CARD)
    assert content(run / "sae", CARD) == content(finished / "sae", CARD)
    assert content(run / "codes") == content(finished / "codes")
    for file in ("traits.parquet", "latents.parquet"):
        assert (run / "traits" / file).read_bytes() == (finished / "traits" / file).read_bytes(), file


def test_an_image_that_was_away_is_described_when_it_is_back(drawn, tmp_path, capsys):
    source = some_of(drawn, tmp_path / "source", n_species=N_SPECIES, images_per_species=3)
    folder = tmp_path / "run"
    arguments = [str(folder), "--config", str(tmp_path / "options.yaml")]
    (tmp_path / "options.yaml").write_text(
        "features: {backbone: texture, workers: 0}\n"
        "train: {architecture: {kind: topk, k: 4}, n_latents: 64, n_patches: 4000, batch_size: 512}\n"
        "describer: {workers: 1}\n"
        'regions: {background: "off", contrast: {significant_only: false}}\n'
    )
    assert main(["extract", str(source), "--out", *arguments]) == 0
    assert main(["train", *arguments]) == 0
    image = next((source / "images").rglob("*.png"))
    image.rename(tmp_path / "away.png")
    assert main(["annotate", *arguments]) == 1, "the dataset cannot be written without the image"
    assert str(image) in capsys.readouterr().err
    (tmp_path / "away.png").rename(image)
    assert main(["annotate", *arguments]) == 0
    assert "27 of 27 images" in capsys.readouterr().out


def test_a_run_that_cannot_be_made_with_other_options_stays_finished(drawn, run, capsys):
    former = [(run / name).read_bytes() for name in ("config.yaml", "steps.json")]
    nobody = ["--describer", "server", "--describer-model", "m", "--base-url", "http://127.0.0.1:9/v1"]
    for options in (["--backbone", "no/such/model/anywhere"], [*SMALL, "--longest-side", "96", *nobody]):
        assert main(["run", str(drawn), "--out", str(run), *options]) == 1
        assert "options changed since this run was made" in capsys.readouterr().err
        assert [(run / name).read_bytes() for name in ("config.yaml", "steps.json")] == former
    assert main(["annotate", str(run)]) == 0
    assert "made with" not in capsys.readouterr().err


def test_images_that_have_moved_are_read_again_there_once_they_can_be_listed(drawn, run, tmp_path, capsys):
    first, moved = (Path(shutil.copytree(drawn, tmp_path / name)) for name in ("first", "moved"))
    (tmp_path / "empty").mkdir()
    again = ["--out", str(tmp_path / "other"), *SMALL]
    assert main(["collect", str(first), *again]) == 0
    shutil.rmtree(first)
    former = content(tmp_path / "other", ".lock")
    assert main(["collect", str(tmp_path / "empty"), *again]) == 1
    assert content(tmp_path / "other", ".lock") == former
    assert main(["collect", str(moved), *again]) == 0
    assert Collection.load(tmp_path / "other" / "images.parquet").root == moved
    capsys.readouterr()


def test_the_status_says_what_is_done_what_is_there_and_what_is_next(finished, run, capsys):
    def status(*words):
        assert main(["status", str(run), *words]) == 0
        return capsys.readouterr().out

    before = content(run)
    lines = status().splitlines()
    assert [line.split()[0] for line in lines] == ["run", *STEP_NAMES, "next"]
    assert lines[1].startswith("collect   done, 45 images of 9 species, in ")
    assert lines[-1] == "next      nothing: all steps are done"
    assert content(run) == before

    (run / "codes" / "index.json").unlink()
    going_on = f"`sae-traits run --config {run}/config.yaml --out {run}`, which does all that is left"
    assert f"encode: {going_on} (or `sae-traits encode {run}`)" in status()
    shutil.copy(finished / "codes" / "index.json", run / "codes")
    records = json.loads((run / "steps.json").read_text())
    (run / "steps.json").write_text(json.dumps({name: records[name] for name in ("collect", "extract", "annotate")}))
    found = json.loads(status("--format", "json"))
    states = {step["step"]: step["state"] for step in found["steps"]}
    assert (states["extract"], states["train"], states["annotate"]) == ("done", "waiting", "outdated")
    assert (found["next"], found["shards"]) == ("train", [])
    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace("kind: texture", "kind: vision_model"))
    assert "made with backbone texture, and its config.yaml says backbone facebook/dinov2-base" in status()
    with lock.writing(run):
        assert "now       a command writes to it" in status().splitlines()


def test_a_copied_run_is_complete_and_compared_once(drawn, finished, tmp_path, capsys):
    copied = Path(shutil.copytree(finished, tmp_path / "copied", copy_function=shutil.copy))
    again = ["run", str(drawn), "--out", str(copied), *SMALL]
    with counting_opens(copied) as first:
        assert main(again) == 0
    said = capsys.readouterr().err
    assert said.count("complete and its inputs have not changed, skipped") == len(STEP_NAMES)
    assert "started" not in said
    with counting_opens(copied) as second:
        assert main(again) == 0
    of_steps = {file for name in STEP_NAMES for file in json.loads((copied / "steps.json").read_text())[name]["files"]}
    assert all(second[file] < first[file] for file in of_steps)
    capsys.readouterr()


def test_what_does_not_work_is_not_kept_in_the_configuration(run, capsys):
    before = (run / "config.yaml").read_bytes()
    assert main(["evaluate", str(run), "--clip", "no/such/clip/anywhere"]) == 1
    assert main(["train", str(run), "--sae", "no/such/sae/anywhere"]) == 1
    assert (run / "config.yaml").read_bytes() == before
    capsys.readouterr()


@pytest.mark.slow
def test_one_step_at_a_time_gives_the_same_dataset(finished, drawn, tmp_path):
    folder = tmp_path / "steps"
    (tmp_path / "options.yaml").write_text(OPTIONS)
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
    "evaluation/results.json",
    "dataset/README.md",
]


@pytest.mark.slow
@pytest.mark.parametrize("point", KILL_POINTS)
def test_a_run_that_was_killed_ends_with_the_same_dataset(finished, drawn, forked, tmp_path, point):
    folder = tmp_path / "killed"
    arguments = ["run", drawn, "--out", folder, *SMALL]
    running = forked.start(*arguments)
    deadline = time.monotonic() + 120
    while not (folder / point).exists() and running.is_running() and time.monotonic() < deadline:
        time.sleep(0.005)
    running.kill()
    assert running.wait().was_killed
    assert (folder / point).exists()
    records = json.loads((folder / "steps.json").read_text()) if (folder / "steps.json").is_file() else {}
    assert "cards" not in records, "the kill came before the end"
    again = forked.do(*arguments)
    assert again.code == 0, again.err
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


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
@pytest.mark.parametrize(
    "kilobytes", [pytest.param(n, marks=pytest.mark.slow) for n in (64, 1000, 5100, 5300, 5500, 5700, 6000, 7000)]
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


OTHER = "made with k 8, and its config.yaml says k 4: finish the run with the command that changed this, or go back"


@pytest.mark.slow
def test_a_finished_run_that_was_killed_while_it_was_made_with_other_options_says_so(drawn, run, forked, tmp_path):
    arguments = ["run", drawn, "--out", run, *SMALL]
    card = (run / "sae" / "README.md").read_text()
    running = forked.start(*arguments, "--k", "4")
    while "k: 4\n" not in (run / "config.yaml").read_text() or "train: started" not in running.said():
        assert running.is_running()
        time.sleep(0.01)
    running.kill()
    killed = running.wait()
    assert killed.was_killed
    assert (
        "options changed since this run was made: k 8 -> 4; the steps that depend on them are made anew" in killed.err
    )
    for reading in (
        ("compare", run, "Fictacara ignita", "Fictacara zonata"),
        ("latents", run),
        ("atlas", run),
        ("export", run, tmp_path / "exported", "--to", "darwin-core"),
    ):
        done = forked.do(*reading)
        assert done.code == 0, done.err
        assert done.err.count(OTHER) == 1, done.err
    repositories = ["--model-repo", "o/s", "--dataset-repo", "o/t"]
    for writing in (("evaluate", run), ("annotate", run), ("publish", run, *repositories, "--dry-run")):
        done = forked.do(*writing)
        assert done.code == 1, done.err
        assert done.err.count(OTHER) == 1, done.err
    assert (run / "sae" / "README.md").read_text() == card
    back = forked.do(*arguments)
    assert back.code == 0, back.err
    assert "train: complete and its inputs have not changed, skipped" in back.err
    assert "made with" not in forked.do("latents", run).err


@pytest.mark.slow
def test_a_step_that_was_killed_goes_on_with_its_options_and_the_status_says_how_the_run_does(run, forked):
    running = forked.start("train", run, "--k", "4")
    while "k: 4\n" not in (run / "config.yaml").read_text():
        assert running.is_running()
        time.sleep(0.01)
    running.kill()
    assert running.wait().was_killed
    assert forked.do("train", run).code == 0
    assert json.loads((run / "sae" / "config.json").read_text())["k"] == 4
    going_on = ("run", "--config", run / "config.yaml", "--out", run)
    said = f"next      encode: `sae-traits {' '.join(map(str, going_on))}`, which does all that is left"
    assert said in forked.do("status", run).out
    assert forked.do(*going_on).code == 0
    assert json.loads((run / "sae" / "config.json").read_text())["k"] == 4
    assert "next      nothing: all steps are done" in forked.do("status", run).out


@pytest.mark.slow
def test_other_options_and_an_atlas_of_the_dataset_before_are_said(drawn, run, forked):
    arguments = ["run", drawn, "--out", run, *SMALL]
    assert forked.do("atlas", run).code == 0
    same = forked.do(*arguments)
    assert "options changed" not in same.err
    assert "to look at it in a browser" in same.out
    other = forked.do(*arguments, "--longest-side", "96")
    assert other.code == 0, other.err
    line = (
        "options changed since this run was made: longest-side 128 -> 96; the steps that depend on them are made anew"
    )
    assert other.err.count(line) == 1
    assert f"atlas     {run / 'atlas'} is of the dataset before; make it again with sae-traits atlas {run}" in other.out
    assert "to look at it in a browser" not in other.out
    assert forked.do("atlas", run).code == 0
    again = forked.do(*arguments, "--longest-side", "96")
    assert "options changed" not in again.err
    assert "of the dataset before" not in again.out


def test_options_that_changed_nothing_that_was_made_are_not_told_of_twice(drawn, run, capsys):
    assert main(["run", str(drawn), "--out", str(run), *SMALL, "--sae-license", "mit"]) == 0
    assert "options changed since this run was made: sae-license none -> mit" in capsys.readouterr().err
    assert main(["evaluate", str(run)]) == 0
    assert "options changed" not in capsys.readouterr().err


def test_a_configuration_that_was_edited_gives_no_card(run, capsys):
    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace("k: 8\n", "k: 4\n"))
    card = (run / "sae" / "README.md").read_text()
    assert main(["evaluate", str(run)]) == 1
    assert OTHER in capsys.readouterr().err
    assert (run / "sae" / "README.md").read_text() == card
