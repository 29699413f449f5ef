"""The wheel that people install holds what the package needs at run time."""

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "examples" / "first_run.ipynb"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the content of the wheel, and nothing of the repository."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def python(site: Path, folder: Path, *words: object) -> str:
    """What Python prints with the wheel, run in a folder: it looks in its own folder first."""
    environment = {"PYTHONPATH": str(site), "PATH": "", "HOME": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_the_wheel_has_all_data_and_nothing_beside_the_package(site):
    names = [path.relative_to(site).as_posix() for path in site.rglob("*")]
    assert "sae_traits/hub_cards/dataset_card.md.jinja" in names
    assert {f"sae_traits/atlas/templates/{name}" for name in ("base.html.jinja", "atlas.css", "atlas.js")} <= set(names)
    assert "sae_traits/testbench/drawn_clip/model.safetensors" in names
    assert {"sae_traits/__main__.py", "sae_traits/notebook/run.html.jinja"} <= set(names)
    assert not [name for name in names if name.startswith(("tests", "docs", "scripts"))]
    packaged = {path.relative_to(ROOT).as_posix() for path in (ROOT / "sae_traits").rglob("*") if path.is_file()}
    assert {name for name in packaged if "__pycache__" not in name} <= set(names)


@pytest.mark.slow
def test_an_installed_wheel_renders_cards_and_finds_recipes(site, tmp_path):
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
    assert "SAE.from_pretrained" in python(site, tmp_path, "-c", code, site, tmp_path / "sae")


@pytest.mark.slow
def test_every_command_of_an_installed_wheel_explains_itself(site, tmp_path):
    commands = re.findall(r"^    ([a-z]+) ", python(site, tmp_path, "-m", "sae_traits", "--help"), re.MULTILINE)
    assert {"run", "demo", "launch", "plan", "schema"} <= set(commands)
    for name in commands:
        assert f"usage: sae-traits {name} " in python(site, tmp_path, "-m", "sae_traits", name, "--help")
    assert json.loads(python(site, tmp_path, "-m", "sae_traits", "schema"))["properties"].keys() >= {"train", "regions"}
    assert "_sae_traits" in python(site, tmp_path, "-m", "sae_traits", "completion", "bash")
    python(site, tmp_path, "-m", "sae_traits", "doctor", "demo")
    for rates in ("measured", "paper"):
        assert "9 images / " in python(site, tmp_path, "-m", "sae_traits", "plan", "--specimens", 9, "--rates", rates)


@pytest.mark.slow
def test_the_notebook_and_a_launcher_need_nothing_of_the_repository(site, tmp_path):
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert "codes: 3 shards" in python(site, tmp_path, "-c", f"{code}\nassert run._repr_html_()")
    python(site, tmp_path, "-m", "sae_traits", "atlas", "runs/drawn")
    launcher = ("-m", "accelerate.commands.launch", "--cpu", "--num_processes", 2, "-m", "sae_traits")
    printed = python(site, tmp_path, *launcher, "train", "runs/drawn", "--seed", 1, "--format", "json")
    assert json.loads(printed)["run"] == "runs/drawn"
    assert json.loads((tmp_path / "runs/drawn/sae/config.json").read_text())["training"]["settings"]["seed"] == 1
