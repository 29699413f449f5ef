"""The docs say what is there: examples run in their order, commands and options exist, links lead somewhere."""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
import torch

import sae_traits
from sae_traits.cli import build_parser, main
from sae_traits.config.command_line import given_options
from sae_traits.config.run import RunConfig
from sae_traits.config.tree import build
from sae_traits.testbench.drawn import draw_collection

EXAMPLES = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
FOLDERS = [Path(sae_traits.__file__).parent, *(ROOT / name for name in ("benchmarks", "scripts", "tests"))]
OF_OTHERS = {  # options of programs that are not ours, and of what was compared
    *("--repo-type", "--local-dir", "--include", "--type", "--index-url", "--standalone"),
    *("--num_processes", "--mixed_precision", "--dynamo_backend", "--nproc_per_node"),
    *("--max-model-len", "--limit-mm-per-prompt", "--tensor-parallel-size", "--api-key", "--port"),
    *("--describer.kind", "--descriver-model"),
    *("--figure", "--folder", "--images", "--rounds", "--seeds", "--starts", "--steps", "--tiny"),  # of benchmarks
}


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


@cache
def commands():
    """Every command's parser, with the options of all variants."""
    (action,) = (
        action
        for action in build_parser([], all_options=True)._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return {name: set(parser._option_string_actions) for name, parser in action.choices.items()}


def command_lines(page):
    """What a page says of sae-traits, in blocks of code and within lines, lines that are continued as one."""
    text = re.sub(r"\\\n\s*", " ", page.read_text(encoding="utf-8"))
    in_blocks = re.findall(r"^sae-traits .*$", text, re.MULTILINE)
    within_lines = re.findall(r"`(sae-traits [^`]*)`", text.replace("\n", " "))
    return in_blocks + within_lines


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_with_its_options_exists(page):
    for line in command_lines(page):
        _, command, *words = line.split("#")[0].split()
        if command in ("COMMAND", "--help"):
            continue
        assert command in commands(), line
        for word in words:
            assert not word.startswith("--") or word.partition("=")[0] in commands()[command], line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_that_a_page_names_exists(page):
    known = set().union(*commands().values()) | OF_OTHERS
    named = set(re.findall(r"(?<![\w-])--[a-z][\w.-]*[a-z0-9]", page.read_text(encoding="utf-8")))
    assert named <= known, named - known


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", DOCS / "guide.md", DOCS / "architecture.md"], ids=lambda p: p.name
)
def test_the_commands_in_blocks_make_a_configuration(page):
    lines = re.findall(
        r"^sae-traits (?:run|extract|train|annotate|evaluate|predict) .*$", page.read_text("utf-8"), re.M
    )
    assert lines
    for line in lines:
        words = [word for word in shlex.split(line, comments=True)[1:] if word != "…"]
        arguments = build_parser(words).parse_args(words)
        unlabelled = {"collection": {"labels": False}} if words[0] == "predict" else {}
        assert isinstance(build(RunConfig, given_options(arguments), unlabelled), RunConfig)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_and_every_file_that_a_page_names_is_there(page):
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link
    for name in re.findall(r"`((?:[a-z_]+/)*[a-z_]+\.py)`", text):
        assert is_example(name) or (ROOT / name).is_file() or any(list(folder.rglob(name)) for folder in FOLDERS), name


def is_example(name):
    """Whether a file is one that docs/architecture.md adds."""
    added = ("area", "half_topk", "file_list", "sentences", "vocabulary", "neighbours", "pixels")
    return Path(name).stem in added


def anchors(page):
    """What the headings of a page are called in links, as GitHub does it."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_python_examples_import_what_there_is():
    imports = re.compile(r"^from sae_traits(?:\.[\w.]+)? import .*$", re.MULTILINE)
    lines = [line for page in PAGES for line in imports.findall(page.read_text(encoding="utf-8"))]
    assert lines
    for line in lines:
        (statement,) = ast.parse(line).body
        module = importlib.import_module(statement.module)
        for name in statement.names:
            assert hasattr(module, name.name), line


def test_what_architecture_says_is_registered_somewhere_is_a_name_there():
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    places = re.findall(r"`([a-z_/]+\.py)`(?:,| has)[^`]{0,20}`([A-Za-z_]+)`", text)
    assert {"_CLASSES", "ARCHITECTURES", "paper_contrast", "STEPS", "PatchGrid"} <= {name for _, name in places}
    for file, name in places:
        assert re.search(rf"\b{name}\b", (FOLDERS[0] / file).read_text(encoding="utf-8")), (file, name)
