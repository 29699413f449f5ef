"""The house rules: rooms import only rooms to their left, and the front door opens quickly."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sae_traits

PACKAGE = Path(sae_traits.__file__).parent
ROOMS = ["collections", "features", "sae", "traits", "release", "evaluation"]
COMMON = {"errors", "schema", "geometry", "config", "layers", "files", "progress"}
KNOW_ALL = {
    "encoding.py",
    "estimate.py",
    "extraction.py",
    "training.py",
    "pipeline.py",
    "provenance.py",
    "publishing.py",
    "run.py",
    "summary.py",
    "unlabelled.py",
    "without_effect.py",
    "cli.py",
    "command_line.py",
    "__init__.py",
}


def imported_modules(path):
    """Dotted names of everything of sae_traits that a file imports, at any depth, except for type checking."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("sae_traits"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sae_traits"):
            if node.module == "sae_traits":
                yield from (f"sae_traits.{alias.name}" for alias in node.names)
            else:
                yield str(node.module)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_to_its_left(room):
    allowed = COMMON | {"__version__"} | set(ROOMS[: ROOMS.index(room) + 1])
    files = sorted((PACKAGE / room).rglob("*.py"))
    assert files
    for file in files:
        for name in imported_modules(file):
            assert name.split(".")[1] in allowed, f"{file.relative_to(PACKAGE)} imports {name}"


def test_the_common_files_import_no_room():
    for name in COMMON:
        for module in imported_modules(PACKAGE / f"{name}.py"):
            assert module.split(".")[1] in COMMON, f"{name}.py imports {module}"


def test_there_is_no_file_outside_the_rooms_that_the_house_does_not_know():
    files = {path.name for path in PACKAGE.glob("*.py")}
    assert files == {f"{name}.py" for name in COMMON} | KNOW_ALL


def test_importing_the_package_and_asking_for_help_load_no_torch():
    code = "import sys, sae_traits.cli as c\ntry: c.main(['--help'])\nexcept SystemExit: pass\n"
    code += (
        "heavy = {'torch', 'transformers', 'datasets', 'pandas', 'scipy'} & set(sys.modules)\nassert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("code", ["import sae_traits", "from sae_traits.cli import build_parser; build_parser()"])
def test_the_front_door_imports_few_modules(code):
    """A count, not a time: half a second is some two thousand small modules on a slow machine."""
    code += "\nimport sys; print(len(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert int(found.stdout) < 500


def test_public_names_are_there_and_unknown_ones_are_not():
    for name in sae_traits.__all__:
        assert getattr(sae_traits, name) is not None
    assert "load_extractor" in dir(sae_traits)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = sae_traits.nonsense
