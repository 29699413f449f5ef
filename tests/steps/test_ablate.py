"""The command `ablate` on drawn images: what cells share is done once, what fails stops no other."""

import json
import os
import signal
import subprocess
import time

import pytest
from steps.small_runs import command, content

from sae_traits.cli import main

GRID = """\
run:
  collection: {{source: {source}, per_species: {per_species}}}
  features: {{backbone: texture, workers: 0}}
  train: {{n_latents: 32, n_patches: 4096, batch_size: 512}}
  describer: {{workers: 1}}
vary:
{vary}
"""


def write_grid(file, source, vary, per_species=2):
    file.write_text(GRID.format(source=source, vary=vary, per_species=per_species))
    return file


def cells_of(folder):
    return json.loads((folder / "results.json").read_text())["cells"]


@pytest.mark.slow
def test_shared_steps_are_done_once_and_a_cell_that_fails_is_named_with_its_reason(drawn, tmp_path, capsys):
    grid = write_grid(tmp_path / "grid.yaml", drawn, "  - k: [4]\n    traits-per-image: [1, 2]\n  - k: [64]")
    assert main(["ablate", str(grid), "--out", str(tmp_path / "out")]) == 3
    captured = capsys.readouterr()
    for step, n_done in (("collect", 1), ("extract", 1), ("train", 1), ("encode", 1), ("annotate", 2), ("evaluate", 2)):
        assert captured.err.count(f"{step}: done") == n_done, step
    cells = cells_of(tmp_path / "out")
    assert [cell["state"] for cell in cells] == ["done", "done", "failed"]
    assert cells[2]["reason"] == "k (64) cannot exceed n_latents (32)"
    assert "failed: k-64" in captured.out
    few, many = (cell["figures"] for cell in cells[:2])
    assert few["Regions"]["traits per image"] <= 1 < many["Regions"]["traits per image"]
    assert few["SAE"] == many["SAE"]
    assert few["Parts"]["area inside the organism"] > few["Parts"]["area inside the organism, by chance"]


def test_files_with_parts_that_are_not_there_are_said_before_any_cell_is_run(drawn, tmp_path, capsys):
    grid = write_grid(tmp_path / "grid.yaml", drawn, "  k: [4]")
    assert main(["ablate", str(grid), "--out", str(tmp_path / "out"), "--keypoints", str(tmp_path / "none.csv")]) == 2
    assert "none.csv does not exist" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_an_ablation_that_was_killed_ends_the_same_when_it_is_given_again(drawn, tmp_path, capsys):
    vary = "  k: [4, 8]\n  regions: [sae, random, whole]"
    grid = write_grid(tmp_path / "grid.yaml", drawn, vary, per_species=3)
    assert main(["ablate", str(grid), "--out", str(tmp_path / "whole")]) == 0
    for seconds in (6, 9, 12, 15):
        process = subprocess.Popen(
            command("ablate", grid, "--out", tmp_path / "killed"), start_new_session=True, stderr=subprocess.DEVNULL
        )
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert main(["ablate", str(grid), "--out", str(tmp_path / "killed")]) == 0
    whole, killed = (
        [{name: value for name, value in cell.items() if name != "seconds"} for cell in cells_of(tmp_path / folder)]
        for folder in ("whole", "killed")
    )
    assert whole == killed
    before = cells_of(tmp_path / "killed")
    capsys.readouterr()
    assert main(["ablate", str(grid), "--out", str(tmp_path / "killed")]) == 0
    assert ": done in" not in capsys.readouterr().err
    assert cells_of(tmp_path / "killed") == before
    for cell in whole:
        traits = [content(tmp_path / folder / cell["name"] / "codes") for folder in ("whole", "killed")]
        assert traits[0] == traits[1]
