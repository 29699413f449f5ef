"""A sweep on disk: whole or not at all, and nothing of an earlier one left."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from random_saes import assert_same, features, random_sae

from sae_traits import SAE
from sae_traits.config.train import TopK, TrainConfig
from sae_traits.errors import CheckpointError, StoreError
from sae_traits.sae.sweep import expand, parse_sweep
from sae_traits.sae.sweep_folder import Sweep, read_sweep, save_saes

CONFIG = TrainConfig(architecture=TopK(k=5), n_latents=40)


def measured(sae: SAE, monosemanticity: float, explained_variance: float = 0.5) -> SAE:
    metrics = {
        "explained_variance": explained_variance,
        "l0": 5.0,
        "dead_share": 0.1,
        "monosemanticity": {"mean_with_zeros": monosemanticity, "embedding": "a, mean over patches"},
    }
    shared = {"n_patches": 1000, "settings": {"k": "of the run"}}
    sae.config = replace(sae.config, training=shared | {"metrics": metrics})
    return sae


def save(folder: Path, text: str, scores: list[float]) -> list[SAE]:
    """A sweep of random SAEs with the given monosemanticity scores."""
    configs = expand(CONFIG, parse_sweep(text))
    saes = [
        measured(random_sae(config.architecture.kind, seed=seed), scores[seed]) for seed, config in enumerate(configs)
    ]
    save_saes(folder, saes, configs, parse_sweep(text))
    return saes


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def of_one(folder: str = "") -> set[str]:
    return {f"{folder}config.json", f"{folder}model.safetensors"}


def test_every_sae_has_a_folder_and_the_recommended_one_is_at_the_root(tmp_path: Path):
    saes = save(tmp_path / "sae", "k=4,5 seed=0,1", [0.1, 0.4, 0.3, 0.2])
    names = ["topk-k4-seed0", "topk-k4-seed1", "topk-k5-seed0", "topk-k5-seed1"]
    assert files(tmp_path / "sae") == of_one().union({"sweep.json"}, *(of_one(f"{name}/") for name in names))
    assert os.listdir(tmp_path) == ["sae"]
    x = features()
    for name, sae in zip(names, saes, strict=True):
        assert_same(SAE.from_pretrained(tmp_path / "sae", subfolder=name), sae, x)
    assert_same(SAE.from_pretrained(tmp_path / "sae"), saes[1], x)


def test_sweep_json_says_what_varied_how_each_did_and_why_one_is_recommended(tmp_path: Path):
    save(tmp_path / "sae", "architecture=topk,relu k=4,5", [0.1, math.nan, 0.3])
    values = json.loads((tmp_path / "sae" / "sweep.json").read_text(), parse_constant=pytest.fail)
    assert values["varied"] == {"architecture": ["topk", "relu"], "k": [4, 5]}
    assert values["recommended"] == "relu"
    assert "monosemanticity" in values["rule"]
    assert [row["folder"] for row in values["saes"]] == ["topk-k4", "topk-k5", "relu"]
    assert [row["settings"].get("k") for row in values["saes"]] == [4, 5, None]
    assert [row["metrics"]["monosemanticity"]["mean_with_zeros"] for row in values["saes"]] == [0.1, None, 0.3]
    sweep = read_sweep(tmp_path / "sae")
    assert sweep
    assert sweep.recommended == "relu"
    assert sweep.saes[0].metrics["explained_variance"] == 0.5


def test_the_settings_in_a_folder_are_its_own(tmp_path: Path):
    save(tmp_path / "sae", "seed=0,1", [0.1, 0.2])
    for seed in (0, 1):
        training = SAE.from_pretrained(tmp_path / "sae", subfolder=f"topk-seed{seed}").config.training
        assert training["settings"]["seed"] == seed
        assert "sae" not in training["settings"]
        assert training["n_patches"] == 1000


def test_a_single_sae_is_its_folder_alone_and_keeps_its_record(tmp_path: Path):
    (sae,) = save(tmp_path / "sae", "k=5", [0.1])
    assert files(tmp_path / "sae") == of_one()
    assert read_sweep(tmp_path / "sae") is None
    loaded = SAE.from_pretrained(tmp_path / "sae")
    assert_same(loaded, sae, features())
    assert loaded.config.training["settings"] == {"k": "of the run"}


@pytest.mark.parametrize(("text", "left"), [("k=5,6", {"sweep.json", "topk-k5", "topk-k6"}), ("k=5", set())])
def test_nothing_of_an_earlier_sweep_is_left_but_its_card(tmp_path: Path, text: str, left: set[str]):
    save(tmp_path / "sae", "k=3,4,5", [0.1, 0.2, 0.3])
    (tmp_path / "sae" / "README.md").write_text("in which a person may have written")
    save(tmp_path / "sae", text, [0.1, 0.2])
    assert set(os.listdir(tmp_path / "sae")) == left | of_one() | {"README.md"}
    assert (tmp_path / "sae" / "README.md").read_text() == "in which a person may have written"


KILLED_AT_EVERY_WRITE = """
import os, signal, sys
from pathlib import Path
folder = Path(sys.argv[1])
sys.path.insert(0, sys.argv[2])
from random_saes import random_sae
from sae_traits import SAE
from train_configs import train_config
from sae_traits.sae.sweep_folder import read_sweep, save_saes

def save(varied, *numbers):
    configs = [train_config(n_latents=40, **{varied: number}) for number in numbers]
    saes = [random_sae("topk", seed=number) for number in numbers]
    for sae in saes:
        metrics = {"explained_variance": 0.5, "monosemanticity": {"mean_with_zeros": 0.1}}
        sae.config.training["metrics"] = metrics
    save_saes(folder, saes, configs, [varied])

def save_and_be_killed(at):
    def count(event, arguments):
        nonlocal at
        changes = event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir")
        writes = event == "open" and "w" in str(arguments[1])
        if (changes or writes) and str(folder.parent) in str(arguments[0]):
            at -= 1
            if at == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(count)
    save("k", 5, 6)
    os._exit(0)

states, at = [], 0
while True:
    save("seed", 0, 1, 2)
    if not at:
        (folder / "README.md").write_text("in which a person may have written")
    at += 1
    child = os.fork()
    if child == 0:
        save_and_be_killed(at)
    finished = os.waitpid(child, 0)[1] == 0
    sweep = read_sweep(folder)
    state = [row.folder for row in sweep.saes] if sweep else None
    states.append(state)
    if state is None:
        assert not folder.exists(), os.listdir(folder)
    else:
        assert set(os.listdir(folder)) == {*state, "sweep.json", "config.json", "model.safetensors", "README.md"}
        for name in ["", *state]:
            SAE.from_pretrained(folder, subfolder=name)
    if finished:
        break
save("k", 5, 6)
print(states, os.listdir(folder.parent))
"""


def test_a_kill_at_any_write_leaves_the_earlier_sweep_or_the_new_one_or_nothing_and_keeps_the_card(
    tmp_path: Path,
):
    arguments = [sys.executable, "-c", KILLED_AT_EVERY_WRITE, tmp_path / "sae", Path(__file__).parent]
    found = subprocess.run(arguments, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    before, after = ["topk-seed0", "topk-seed1", "topk-seed2"], ["topk-k5", "topk-k6"]
    states = [before] * found.stdout.count(str(before)) + [None] + [after] * found.stdout.count(str(after))
    assert found.stdout == f"{states} ['sae']\n"
    assert len(states) > 10


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path):
    save(tmp_path / "sae", "k=5,6", [0.1, 0.2])
    before = files(tmp_path / "sae")
    with pytest.raises(KeyError):
        save_saes(
            tmp_path / "sae",
            [random_sae("topk"), random_sae("topk")],
            [CONFIG, replace(CONFIG, architecture=TopK(k=6))],
            ["k"],
        )
    assert files(tmp_path / "sae") == before
    assert os.listdir(tmp_path) == ["sae"]
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write .*file/sae: Not a directory; make room"):
        save(tmp_path / "file" / "sae", "k=5,6", [0.1, 0.2])


@pytest.mark.parametrize("name", ["..", ".", ".git", "a/b", "/etc", "", "a\n", "a b", "..\\b", 7, None])
def test_a_folder_that_is_not_a_plain_name_is_refused(name: object):
    row = {"folder": name, "settings": {}, "metrics": {}}
    with pytest.raises(CheckpointError, match="not a plain name"):
        Sweep.from_dict({"varied": {}, "recommended": name, "rule": "", "saes": [row]})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", r"sweep\.json is not JSON.*train again"),
        ("\udcff", r"sweep\.json is not JSON"),
        ("[]", "must hold a JSON object, not list"),
        ("null", "must hold a JSON object"),
        ('{"saes": [], "varied": {}, "rule": ""}', "is not one of sae-traits: KeyError 'recommended'"),
        ('{"saes": [3], "varied": {}, "rule": "", "recommended": "a"}', "is not one of sae-traits"),
        ('{"saes": [], "varied": [], "rule": "", "recommended": "a"}', "is not one of sae-traits"),
        ('{"saes": [], "varied": {}, "rule": "", "recommended": "a"}', "recommends 'a', which it has no row for"),
    ],
)
def test_a_damaged_sweep_file_is_one_clear_error(tmp_path: Path, text: str, expected: str):
    (tmp_path / "sweep.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError, match=expected):
        read_sweep(tmp_path)
