"""The examples of docs/sae.md do what they say, in their order."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest
import torch

from sae_traits.cli import main
from sae_traits.testbench.drawn import draw_collection

EXAMPLES = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What the examples have made, by name; in a folder of its own, as the reader's is."""
    folder, before = tmp_path_factory.mktemp("reader"), Path.cwd()
    draw_collection(folder / "drawn", images_per_species=3, workers=1)
    (folder / "drawn" / "images").rename(folder / "photographs")  # as an image folder, without its table
    made = {"folder": folder}
    os.chdir(folder)
    try:
        for language, example in EXAMPLES.findall((DOCS / "sae.md").read_text(encoding="utf-8")):
            if language == "python":
                exec(compile(example, "docs/sae.md", "exec"), made)
                continue
            for command in example.splitlines():
                program, *arguments = shlex.split(command)
                assert program == "sae-traits"
                assert main(arguments) == 0, command
    finally:
        os.chdir(before)
    return made


def test_codes_are_the_latents_above_the_threshold(names):
    latents = torch.where(names["latents"] > 0.5, names["latents"], 0)
    assert torch.equal(torch.from_numpy(names["codes"].to_scipy().toarray()), latents)
    assert names["codes"].offsets[-1] > 0
    assert names["reconstruction"].shape == names["features"].shape == (len(names["grid"].valid), 59)


def test_an_sae_of_own_features_learns(names):
    metrics = names["measure_sae"](names["mine"], [names["own"]])
    assert metrics.explained_variance > 0.3
    assert metrics.l0 == pytest.approx(8, abs=1.5)


def test_measures_and_baselines_are_figures(names):
    assert 0.2 < names["metrics"].explained_variance < 1
    assert -1 < names["scores"].mean_with_zeros < 1
    assert set(names["explained"]) == {"pca", "nmf", "k_means", "random"}
    assert names["explained"]["pca"] > names["explained"]["random"]
    assert 0 < names["stability"].mean_cosine < 1
    outcome = names["outcome"].to_dict()
    assert outcome["n_images"] == sum(record.split != "train" for record in names["collection"].images)
    assert outcome["accuracy_original"] > 1 / outcome["n_classes"]


def test_a_converted_sae_comes_back(names):
    back = names["SAE"].from_pretrained(names["folder"] / "saes" / "back")
    with torch.no_grad():
        torch.testing.assert_close(back.encode(names["features"]), names["latents"], rtol=0, atol=1e-5)
