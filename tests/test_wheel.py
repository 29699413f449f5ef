"""The wheel that people install holds what the package needs at run time."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_an_installed_wheel_renders_cards_and_finds_recipes(tmp_path):
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    assert "sae_traits/hub_cards/dataset_card.md.jinja" in names
    assert {f"sae_traits/atlas/templates/{name}" for name in ("base.html.jinja", "atlas.css", "atlas.js")} <= set(names)
    assert "sae_traits/testbench/drawn_clip/model.safetensors" in names
    assert {"sae_traits/__main__.py", "sae_traits/notebook/run.html.jinja"} <= set(names)
    assert not [name for name in names if name.startswith(("tests", "docs", "scripts"))]
    code = """
import pathlib, sys, sae_traits
assert str(pathlib.Path(sae_traits.__file__)).startswith(sys.argv[1]), sae_traits.__file__
from sae_traits.config import RunConfig
from sae_traits.config.layers import read_config, recipe_file
from sae_traits.config.tree import build
from sae_traits.evaluation.text import read_templates
from sae_traits.release.model_card import write_model_card
assert build(RunConfig, read_config(recipe_file("demo.yaml"))).features.backbone.kind == "texture"
assert len(read_templates("openai")) == 80
config = sae_traits.SAEConfig(architecture="relu", d_model=2, n_latents=4)
sae_traits.SAE.from_config(config).save_pretrained(sys.argv[2])
import json
config = json.loads(pathlib.Path(sys.argv[2], "config.json").read_text())
write_model_card(pathlib.Path(sys.argv[2]), config, repo_id=None)
print(pathlib.Path(sys.argv[2], "README.md").read_text())
"""
    site, sae = tmp_path / "site", tmp_path / "sae"
    environment = {"PYTHONPATH": str(site), "PATH": ""}
    arguments = [sys.executable, "-c", code, site, sae]  # run elsewhere: Python looks in its own folder first
    found = subprocess.run(arguments, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert "SAE.from_pretrained" in found.stdout
