"""Engines give the commands of a step in shards to something that runs them; here stubs of it do what they say."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sae_traits.cli import main
from sae_traits.engines import Job, launch
from sae_traits.errors import ConfigError, StoreError
from sae_traits.features.store import FeatureStore

SBATCH = """#!/bin/bash
# Runs a script at once, every task of an array after the other, and prints a number as sbatch does.
script="${@: -1}"
echo "$@" >> "$STUB_LOG"
tasks=$(sed -n 's/^#SBATCH --array=1-\\([0-9]*\\)$/\\1/p' "$script")
for task in $(seq 1 "${tasks:-1}"); do
  SLURM_ARRAY_TASK_ID=$task bash "$script" >> "$STUB_LOG.output" 2>&1 || exit 1
done
echo "$(( 40 + $(wc -l < "$STUB_LOG") ));cluster"
"""
NUMBERING = """#!/bin/bash
echo "$@" >> "$STUB_LOG"
echo "$(wc -l < "$STUB_LOG");cluster"
"""
"""The same, without running anything."""
HF = """#!/bin/bash
# Runs the command of a job at once, with the bucket at its place on this machine.
echo "$@" >> "$STUB_LOG"
[ "$2" = wait ] && exit 0
while [ "$1" != sae-traits ]; do shift; done
shift
"$STUB_PYTHON" -m sae_traits.cli "${@//\\/storage/$STUB_BUCKET}" >> "$STUB_LOG.output" 2>&1 || exit 1
echo job-$(wc -l < "$STUB_LOG")
"""
NOTING = HF.replace('"$STUB_PYTHON" -m sae_traits.cli', "echo sae-traits")
"""The same, but for the command itself."""
DRY_HF = """#!/bin/bash
# Has the command of huggingface_hub read what it is given, without sending anything.
for word in "$@"; do [ "$word" = --quiet ] || words+=("$word"); done
[ "$2" = wait ] || "$STUB_PYTHON" -m huggingface_hub.cli.hf "${words[@]:0:2}" --dry-run "${words[@]:2}" >> "$STUB_LOG"
"""


def stub(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a program on the path; the file in which it notes how it was called."""
    program = folder / "bin" / name
    program.parent.mkdir(exist_ok=True)
    program.write_text(text)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("STUB_LOG", str(folder / "log"))
    return folder / "log"


def job(run: Path, n_shards: int = 2, **settings: str) -> Job:
    return Job(step="extract", run=run, n_shards=n_shards, call=main, settings=settings)


@pytest.fixture
def collected(tmp_path: Path) -> Path:
    """A run whose images are collected: 40 images, three feature shards."""
    generator = np.random.default_rng(0)
    for number in range(40):
        path = tmp_path / "images" / f"Vanessa_{('atalanta', 'cardui')[number % 2]}" / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    run = tmp_path / "runs" / "tiny"
    assert (
        main(["collect", str(tmp_path / "images"), "--out", str(run), "--backbone", "texture", "--workers", "0"]) == 0
    )
    return run


def test_the_scripts_of_slurm_are_shown_and_submitted_in_their_order(tmp_path, monkeypatch):
    log = stub(
        tmp_path, "sbatch", '#!/bin/bash\necho "$@" >> "$STUB_LOG"\necho "$(wc -l < "$STUB_LOG");x"\n', monkeypatch
    )
    shown = launch(job(tmp_path / "run", 7, partition="gpu"), "slurm", submit=False)
    assert not log.exists()
    folder = tmp_path / "run" / "shards" / "extract"
    array = (folder / "shards.sbatch").read_text().splitlines()
    assert {"#SBATCH --array=1-7", "#SBATCH --partition=gpu"} <= set(array)
    assert array[-1].endswith(f'-m sae_traits.cli extract {tmp_path}/run --shard "${{SLURM_ARRAY_TASK_ID}}/7"')
    assert array[-1] in shown
    for name in ("shards", "merge"):
        assert "#SBATCH --kill-on-invalid-dep=yes\n" in (folder / f"{name}.sbatch").read_text()
    assert launch(job(tmp_path / "run", 7), "slurm", submit=True).endswith("# submitted as the jobs 1, 2, 3")
    assert log.read_text().splitlines() == [
        f"--parsable {folder}/prepare.sbatch",
        f"--parsable --dependency=afterok:1 {folder}/shards.sbatch",
        f"--parsable --dependency=afterok:2 {folder}/merge.sbatch",
    ]


def test_commands_hold_in_every_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = job(Path("run"), 2)
    assert [words[1] for words in (asked.prepare(), asked.shard(1), asked.merge())] == [f"{tmp_path}/run"] * 3
    (tmp_path / "moths").mkdir()
    monkeypatch.chdir(tmp_path / "moths")
    shown = launch(job(Path(), bucket="museum/runs", image="museum/sae-traits"), "hf-jobs", submit=False)
    assert "sae-traits merge /storage/moths" in shown


def test_the_commands_of_jobs_on_the_hub_are_shown_and_run_in_their_order(tmp_path, monkeypatch):
    log = stub(tmp_path, "hf", NOTING, monkeypatch)
    monkeypatch.setenv("STUB_BUCKET", "/bucket")
    settings = {"bucket": "museum/runs", "image": "museum/sae-traits", "flavor": "l4x1"}
    one = Job(step="encode", run=tmp_path / "moths", n_shards=2, call=main, options=("--k", "3"), settings=settings)
    shown = launch(one, "hf-jobs", submit=True)
    assert "hf jobs run --detach --quiet --name sae-traits-encode-shard --flavor l4x1" in shown
    assert "--volume hf://buckets/museum/runs:/storage museum/sae-traits sae-traits encode" in shown
    commands = Path(f"{log}.output").read_text().splitlines()
    assert commands == [
        "sae-traits encode /bucket/moths --prepare --k 3",
        "sae-traits encode /bucket/moths --shard 1/2",
        "sae-traits encode /bucket/moths --shard 2/2",
        "sae-traits merge /bucket/moths",
    ]
    assert log.read_text().splitlines()[3] == "jobs wait job-2 job-3"


@pytest.mark.slow
def test_the_command_of_the_hub_understands_the_script(tmp_path, monkeypatch):
    """It takes an option that it does not know for the name of the image."""
    log = stub(tmp_path, "hf", DRY_HF, monkeypatch)
    monkeypatch.setenv("STUB_PYTHON", sys.executable)
    monkeypatch.setenv("HF_TOKEN", "hf_made_up")
    settings = {"bucket": "museum/runs", "image": "museum/sae-traits", "flavor": "l4x1"}
    launch(job(tmp_path / "moths", 1, **settings), "hf-jobs", submit=True)
    read = [line.split(maxsplit=1) for line in log.read_text().splitlines() if line.startswith("  ")]
    said = {name: [words[1] for words in read if words[0] == name] for name, _ in read}
    run = "/storage/moths"
    assert said == {
        "image": ["museum/sae-traits"] * 3,
        "command": [f"sae-traits extract {run} {part}" for part in ("--prepare", "--shard 1/1")]
        + [f"sae-traits merge {run}"],
        "flavor": ["l4x1"] * 3,
        "timeout": ["24h"] * 3,
        "attempts": ["3"] * 3,
        "secrets": ["HF_TOKEN=***"] * 3,
        "volumes": ["hf://buckets/museum/runs:/storage"] * 3,
        "labels": [f"name=sae-traits-extract-{name}" for name in ("prepare", "shard", "merge")],
    }


def test_settings_that_an_engine_does_not_have_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="no setting 'partition'; --engine-option takes at-once"):
        launch(job(tmp_path, partition="gpu"), "local", submit=False)
    with pytest.raises(ConfigError, match="needs --engine-option image="):
        launch(job(tmp_path, bucket="a/b"), "hf-jobs", submit=False)
    assert main(["launch", "extract", str(tmp_path), "--shards", "0"]) != 0


@pytest.mark.parametrize(
    ("engine", "setting", "given"), [("local", "at-once", "0"), ("local", "at-once", "x"), ("ray", "retries", "-1")]
)
def test_a_setting_that_is_no_number_is_refused_before_anything_is_made(tmp_path, engine, setting, given):
    def never(command):
        raise AssertionError(command)

    asked = Job(step="extract", run=tmp_path, n_shards=2, call=never, settings={setting: given})
    with pytest.raises(ConfigError, match=f"{setting} is a whole number of . or more, not '{given}'"):
        launch(asked, engine, submit=False)
    assert not list(tmp_path.iterdir())


def test_a_shard_that_is_to_have_more_gpus_than_there_are_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    with pytest.raises(ConfigError, match="4 GPUs, and this machine has 3"):
        launch(Job(step="extract", run=tmp_path, n_shards=2, call=main, gpus_per_shard=4), "local", submit=False)


def check_features(run: Path, n_shards: int) -> None:
    """The features are those of one process, and every shard is done."""
    alone = run.parent / "alone"
    assert main(["extract", str(run.parents[1] / "images"), "--out", str(alone), "--backbone", "texture"]) == 0
    assert FeatureStore.open(run / "activations").entries == FeatureStore.open(alone / "activations").entries
    marks = [json.loads(path.read_text()) for path in (run / "shards" / "extract").glob(f"*-of-{n_shards:05d}.json")]
    assert [mark["state"] for mark in marks] == ["done"] * n_shards


@pytest.mark.slow
def test_slurm_does_what_its_scripts_say(collected, tmp_path, monkeypatch):
    stub(tmp_path, "sbatch", SBATCH, monkeypatch)
    launch(job(collected, 3), "slurm", submit=True)
    check_features(collected, 3)


@pytest.mark.slow
def test_jobs_on_the_hub_do_what_their_script_says(collected, tmp_path, monkeypatch):
    stub(tmp_path, "hf", HF, monkeypatch)
    monkeypatch.setenv("STUB_BUCKET", str(collected.parent))
    monkeypatch.setenv("STUB_PYTHON", sys.executable)
    launch(job(collected, 2, bucket="museum/runs", image="museum/sae-traits"), "hf-jobs", submit=True)
    check_features(collected, 2)


@pytest.mark.slow
def test_processes_of_this_machine_make_all_shards_and_say_which_failed(collected, tmp_path):
    gone = sorted((tmp_path / "images").rglob("*.png"))[0]
    shutil.move(gone, tmp_path / "gone.png")
    with pytest.raises(StoreError, match=r"1 of 2 shards failed: 1/2; `sae-traits status"):
        launch(job(collected, 2), "local", submit=False)
    shutil.move(tmp_path / "gone.png", gone)
    assert launch(job(collected, 2), "local", submit=False) == "extract: 2 shards made and merged"
    check_features(collected, 2)


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'sae-traits[ray]'"
)
def test_ray_makes_all_shards(collected):
    assert launch(job(collected, 3), "ray", submit=False) == "extract: 3 shards made and merged"
    check_features(collected, 3)
