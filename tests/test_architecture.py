"""The house rules: rooms import only rooms to their left, steps no other step, and the front door opens quickly."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import sae_traits
from sae_traits.steps import STEPS

PACKAGE = Path(sae_traits.__file__).parent
COMMON = ["errors", "vocabulary", "geometry", "io", "logging", "arrow", "rendering", "schema", "config"]
"""Small files that all rooms know, and the options; each imports only those to its left."""
ROOMS = [
    *("images", "features", "sae", "describers", "traits", "models"),
    *("evaluation", "release", "contrastive", "atlas", "runs", "steps", "engines"),
]
LAST = {"testbench", "notebook", "cli"}
"""What may know all rooms: the demo's world, and the ways in; no room imports them."""


def imported_modules(path):
    """Dotted names of everything of sae_traits that a file imports, at any depth, also for type checking alone."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("sae_traits"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sae_traits"):
            if node.module == "sae_traits":
                yield from (f"sae_traits.{alias.name}" for alias in node.names)
            else:
                yield str(node.module)


def files_of(name):
    return [PACKAGE / f"{name}.py"] if (PACKAGE / f"{name}.py").is_file() else sorted((PACKAGE / name).rglob("*.py"))


@pytest.mark.parametrize("name", [*COMMON, *ROOMS])
def test_a_room_imports_only_rooms_to_its_left(name):
    order = [*COMMON, *ROOMS]
    allowed = {"__version__", *order[: order.index(name) + 1]}
    files = files_of(name)
    assert files
    for file in files:
        for module in imported_modules(file):
            assert module.split(".")[1] in allowed, f"{file.relative_to(PACKAGE)} imports {module}"


def test_there_is_nothing_in_the_package_that_the_house_does_not_know():
    names = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert names == {"__init__", "__main__", *COMMON, *ROOMS, *LAST}


def test_a_step_is_one_file_with_one_function_and_imports_no_other_step():
    files = {path.stem: path for path in files_of("steps") if path.stem != "__init__"}
    assert set(STEPS) <= set(files)
    for name, path in files.items():
        others = {module for module in imported_modules(path) if module.startswith("sae_traits.steps")}
        assert not others, f"{path} imports {others}"
        if name in STEPS:
            functions = [
                node.name for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.FunctionDef)
            ]
            assert [function for function in functions if not function.startswith("_")] == [name]
            assert callable(getattr(importlib.import_module(f"sae_traits.steps.{name}"), name))


def test_the_order_of_a_run_is_data_and_a_step_reads_from_earlier_ones_only():
    names = list(STEPS)
    assert names == ["collect", "extract", "train", "encode", "annotate", "evaluate", "dataset", "cards"]
    for position, before in enumerate(STEPS.values()):
        assert set(before) <= set(names[:position])


def test_importing_the_package_and_asking_for_help_load_nothing_heavy():
    code = "import sys, sae_traits.cli as c\ntry: c.main(['run', '--help'])\nexcept SystemExit: pass\n"
    code += (
        "heavy = {'torch', 'transformers', 'datasets', 'pandas', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    "code", ["import sae_traits", "from sae_traits.cli import build_parser; build_parser(['run', '--help'])"]
)
def test_the_front_door_imports_few_modules(code):
    """A count, not a time: half a second is some two thousand small modules on a slow machine."""
    code += "\nimport sys; print(len(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 500


PUBLIC = [
    "run",
    "Run",
    "SAE",
    "SAEConfig",
    "Extractor",
    "load_extractor",
    "fit_sae",
    "open_image",
    "load_traits",
    "load_clip",
    "evaluate_zero_shot",
    "benchmark",
    "RunConfig",
    "CollectionConfig",
    "FeaturesConfig",
    "VisionModel",
    "Texture",
    "TrainConfig",
    "AdoptedSAE",
    "TopK",
    "BatchTopK",
    "JumpReLU",
    "ReLU",
    "SAERegions",
    "PCARegions",
    "NMFRegions",
    "KMeansRegions",
    "RandomRegions",
    "GradCAMRegions",
    "WholeImage",
    "SpecimenContrast",
    "PaperContrast",
    "ReleasedLatents",
    "Measured",
    "Server",
    "VLLM",
    "Transformers",
    "ReleaseConfig",
    "ZeroShotConfig",
    "SaeTraitsError",
    "ConfigError",
    "CollectionError",
    "ImageError",
    "BackboneError",
    "StoreError",
    "CheckpointError",
    "DescriberError",
    "ReleaseError",
    "__version__",
]


def test_these_names_are_public_and_no_others():
    assert sorted(sae_traits.__all__) == sorted(PUBLIC)
    for name in PUBLIC:
        value = getattr(sae_traits, name)
        assert getattr(value, "__doc__", True), f"{name} says nothing of itself"
    assert dir(sae_traits) == sorted(PUBLIC)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = sae_traits.nonsense


def test_type_checkers_are_told_the_same_names():
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    told = {alias.asname for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert told | {"__version__"} == set(PUBLIC)
