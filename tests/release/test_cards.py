"""Cards: strict templates, hostile values, a front matter that the Hub understands."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import yaml
from hypothesis import given, settings
from hypothesis.strategies import text
from jinja2 import Environment, UndefinedError, meta, nodes

from sae_traits.geometry import Framing
from sae_traits.release import cards
from sae_traits.release.cards import dataset_card, escape
from sae_traits.release.facts import DatasetFacts, DatasetSummary, Rights
from sae_traits.schema import BackboneInfo

BACKBONE = BackboneInfo(
    backbone="facebook/dinov2-base",
    revision="f9e44c814b77203eaa57a6bdbbd535f21ede1415",
    layer=11,
    d_model=768,
    rows=16,
    columns=16,
    patch=14,
    framing=Framing(mode="crop", size=(224, 224), shortest_side=256),
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
FACTS = DatasetFacts(
    backbone=BACKBONE,
    sae_metrics={"explained_variance": 0.912345, "l0": 16.0},
    contrast={"contrast": "specimen"},
    describer="measured",
    describer_model="sae-traits-measured@1",
    prompt="rules-1 sha256:00",
    n_problems=2,
    command="sae-traits run moths",
)
SUMMARY = DatasetSummary(
    rows={"default": {"train": 8, "test": 2}, "specimens": {"train": 4}, "latents": {"train": 3}, "preview": {}},
    n_traits=10,
    n_specimens=4,
    n_species=2,
    n_described=3,
    n_significant=5,
    n_latents=3,
    reference_ranks={"genus": 8, "order": 2},
    rights=(Rights("CC BY 4.0", "A. Naturalist", 4),),
)
HOSTILE = (
    "Aus bus\n---\nlicense: mit\n",
    "<script>alert(1)</script>",
    "| cell | ```\ncode\n``` # heading",
    "[link](javascript:alert(1)) ![image](http://evil.example/x.png)",
    "{{ 7 * 7 }} {% raw %}",
    '*bold* _under_ ~struck~ `code` & &lt; \\ "quoted" \u202e\x00',
)


def card_of(summary: DatasetSummary = SUMMARY, facts: DatasetFacts = FACTS, title: str = "Moths") -> str:
    return dataset_card(summary, facts, sae="org/sae@0123", title=title, longest_side=512, folder="dataset")


def front_matter(card: str) -> dict:
    _, front, _ = re.split(r"^---$", card, maxsplit=2, flags=re.MULTILINE)
    return yaml.safe_load(front)


def test_the_front_matter_names_every_split_that_has_rows():
    front = front_matter(card_of())
    assert front["configs"] == [
        {
            "config_name": "default",
            "data_files": [
                {"split": "train", "path": "data/default/train-*.parquet"},
                {"split": "test", "path": "data/default/test-*.parquet"},
            ],
            "default": True,
        },
        {"config_name": "specimens", "data_files": [{"split": "train", "path": "data/specimens/train-*.parquet"}]},
        {"config_name": "latents", "data_files": [{"split": "train", "path": "data/latents/train-*.parquet"}]},
    ]
    assert front["pretty_name"] == "Moths"
    assert front["size_categories"] == ["n<1K"]


@pytest.mark.parametrize(
    ("licenses", "expected"),
    [
        (["CC BY 4.0"], "cc-by-4.0"),
        (["https://creativecommons.org/licenses/by-nc-sa/4.0/"], "cc-by-nc-sa-4.0"),
        (["http://creativecommons.org/publicdomain/zero/1.0/legalcode"], "cc0-1.0"),
        (["CC0"], "cc0-1.0"),
        (["cc_by_3.0"], "cc-by-3.0"),
        (["all rights reserved"], "other"),
        (["CC BY 4.0", "CC BY 3.0"], "other"),
        (["CC BY 4.0", None], "other"),
        ([None], "unknown"),
    ],
)
def test_the_hub_is_told_a_licence_only_where_all_images_share_it(licenses, expected):
    summary = replace(SUMMARY, rights=tuple(Rights(name, None, 1) for name in licenses))
    assert front_matter(card_of(summary))["license"] == expected


def test_images_without_a_licence_are_counted_in_a_warning():
    summary = replace(SUMMARY, rights=(Rights("CC BY 4.0", "A", 3), Rights(None, None, 1)))
    assert "**Warning:** 1 of 4 images came without a licence" in card_of(summary)
    assert "Warning" not in card_of()


def test_the_card_says_the_figures_and_where_they_come_from():
    card = card_of()
    for said in (
        "75.0 %",
        "50.0 %",
        "| traits (rows of `default`) | 10 |",
        "0.9123",
        "org/sae",
        "facebook/dinov2-base",
    ):
        assert said in card, said
    assert "traits contrasted within the genus | 8 |" in card
    assert 'load_dataset("dataset", "default", split="train")' in card
    assert 'load_dataset("org/moths", "default"' in card_of(facts=replace(FACTS, repo_id="org/moths"))


def test_drawn_specimens_are_said_to_be_drawn():
    drawn = card_of(facts=replace(FACTS, drawn=True))
    assert "drawings of invented species" in drawn
    assert "synthetic" in front_matter(drawn)["tags"]
    assert "invented" not in card_of()


def test_only_the_describer_measured_is_said_to_have_measured():
    assert "its words say only what was measured" in card_of()
    assert "its words say only what was measured" not in card_of(facts=replace(FACTS, describer="server"))


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_values_change_neither_the_front_matter_nor_the_shape_of_the_card(value):
    summary = replace(SUMMARY, rights=(Rights(value, value, 4),), reference_ranks={value: 10})
    facts = replace(FACTS, command=value, describer_model=value, prompt=value, contrast={value: value})
    card, harmless = (
        card_of(summary, facts, title=value),
        card_of(
            replace(SUMMARY, rights=(Rights("x", "y", 4),), reference_ranks={"z": 10}),
            replace(FACTS, contrast={"a": "b"}),
        ),
    )
    front, expected = front_matter(card), front_matter(harmless)
    assert {**front, "pretty_name": ""} == {**expected, "pretty_name": ""}
    assert len(card.splitlines()) == len(harmless.splitlines())
    body = card.split("\n---\n", 1)[1]
    assert value.strip() not in body
    tags = re.compile(r"<[^>]*>")
    assert tags.findall(body) == tags.findall(harmless.split("\n---\n", 1)[1])
    pipes = [line.count("|") for line in body.splitlines()]
    assert pipes == [line.count("|") for line in harmless.split("\n---\n", 1)[1].splitlines()]


@settings(max_examples=200)
@given(text(max_size=400))
def test_an_escaped_value_is_one_line_without_markup(value):
    escaped = str(escape(value))
    assert len(escaped.splitlines()) <= 1
    assert not re.search(r"[<>|`*_\[\]\\~\"'{}]|&(?!#\d+;)", escaped)


@settings(max_examples=50)
@given(text(max_size=60))
def test_any_title_survives_in_the_front_matter(title):
    shown = front_matter(card_of(title=title))["pretty_name"]
    assert shown == " ".join("".join(c if c.isprintable() else " " for c in title).split())


@pytest.mark.parametrize("name", ["dataset_card.md.jinja", "model_card.md.jinja"])
def test_a_template_with_a_missing_variable_is_an_error(name):
    source = (cards._templates() / name).read_text()
    used = meta.find_undeclared_variables(Environment(autoescape=True).parse(source))
    assert "front_matter" in used
    with pytest.raises(UndefinedError):
        cards._render(name, {})


def test_every_attribute_of_the_summary_and_the_facts_that_the_card_reads_exists():
    tree = Environment(autoescape=True).parse((cards._templates() / "dataset_card.md.jinja").read_text())
    known = {"summary": DatasetSummary, "facts": DatasetFacts}
    read = [(n.node.name, n.attr) for n in tree.find_all(nodes.Getattr) if isinstance(n.node, nodes.Name)]
    for owner, attribute in read:
        if owner in known:
            assert attribute in known[owner].__dataclass_fields__, f"{owner}.{attribute}"
