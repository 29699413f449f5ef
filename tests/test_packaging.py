"""What is beside the package says the same as pyproject.toml: recipes, workflows, contents of the documentation."""

import re
import tomllib
from pathlib import Path

import yaml

import sae_traits

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
IN_CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
"""What conda-forge calls otherwise."""


def read_yaml(name):
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def split(requirement):
    """Name and versions of a requirement."""
    name, versions = re.fullmatch(r"([\w.-]+) *(.*)", requirement).groups()
    return IN_CONDA.get(name, name), versions.replace(" ", "")


def test_the_version_is_the_same_everywhere():
    assert sae_traits.__version__ == PROJECT["version"] == read_yaml("CITATION.cff")["version"]
    assert read_yaml("packaging/conda/recipe.yaml")["context"]["version"] == PROJECT["version"]


def test_the_conda_recipe_requires_what_the_wheel_requires():
    recipe = read_yaml("packaging/conda/recipe.yaml")
    run = {split(one) for one in recipe["requirements"]["run"] if not one.startswith("python ")}
    assert run == {split(one) for one in PROJECT["dependencies"]}
    host = {split(one) for one in recipe["requirements"]["host"]}
    assert {split(one) for one in PYPROJECT["build-system"]["requires"]} <= host
    assert PROJECT["requires-python"] == f">={recipe['context']['python_min']}"


def test_the_workflow_calls_targets_that_exist_on_all_versions_of_python_that_we_name():
    workflow = read_yaml(".github/workflows/checks.yml")
    targets = set(
        re.findall(r"^([a-z-]+(?: [a-z-]+)*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    targets = {name for names in targets for name in names.split()}
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    called = {name for step in steps for name in re.findall(r"\bmake ([a-z-]+)", step.get("run", ""))}
    assert {"lint", "test", "docs"} <= called <= targets
    named = {words[-1] for one in PROJECT["classifiers"] if len(words := one.split(" :: Python :: ")) == 2}
    assert set(workflow["jobs"]["tests"]["strategy"]["matrix"]["python-version"]) == named - {"3"}


def test_images_copy_what_the_wheel_is_built_from():
    needed = {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        *PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"],
    }
    needed |= set(PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"])
    for file in ("packaging/Dockerfile", "packaging/apptainer.def"):
        text = (ROOT / file).read_text(encoding="utf-8")
        assert all(re.search(rf"\b{re.escape(name)}\b", text) for name in needed), file
    kept = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE))
    assert kept == needed


def pages_of(nav):
    for entry in nav:
        (value,) = entry.values()
        yield from pages_of(value) if isinstance(value, list) else [value]


def test_every_page_of_the_documentation_is_in_its_table_of_contents():
    pages = list(pages_of(read_yaml("mkdocs.yml")["nav"]))
    assert len(pages) == len(set(pages))
    assert set(pages) == {path.name for path in (ROOT / "docs").glob("*.md")}


def test_pages_link_to_nothing_beside_the_documentation_which_the_site_would_not_have():
    for page in (ROOT / "docs").glob("*.md"):
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            inside = (page.parent / link.partition("#")[0]).resolve().is_relative_to(ROOT / "docs")
            assert "://" in link or inside, f"{page.name}: {link}"


def test_every_public_name_is_on_the_page_of_the_api():
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^::: [\w.]+\.(\w+)$", text, re.MULTILINE))
    (errors,) = re.findall(r"members: \[(SaeTraitsError.*)\]", text)
    assert named - {"errors"} | set(errors.split(", ")) == set(sae_traits.__all__) - {"__version__"}


def test_links_of_the_readme_are_absolute_on_the_package_index():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for one in PYPROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(one["pattern"], one["replacement"], text)
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) > 20
    assert all(link.startswith("https://") for link in links)
    assert "![Regions that a run" in text
    assert "(https://raw.githubusercontent.com/sae-traits/sae-traits/main/docs/images/regions.png)" in text


def test_a_link_of_the_site_that_leads_nowhere_is_found(tmp_path):
    from check_site_links import broken_links

    (tmp_path / "guide").mkdir()
    (tmp_path / "index.html").write_text(
        '<h2 id="a">A</h2><a href="guide/#b">b</a><a href="#a">a</a><img src="no.png">'
    )
    (tmp_path / "guide" / "index.html").write_text(
        '<a href="../#a">a</a><a href="../none/">n</a><a href="https://x.org/y">x</a>'
    )
    assert broken_links(tmp_path) == ["guide/index.html: ../none/", "index.html: guide/#b", "index.html: no.png"]
