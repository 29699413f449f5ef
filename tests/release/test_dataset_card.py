"""Cards: strict templates, hostile values, a front matter that the Hub understands."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import pairwise

import pytest
import yaml
from evaluation.made_results import card_results, made_quality, made_results, made_zero_shot
from huggingface_hub import DatasetCard, DatasetCardData
from hypothesis import given, settings
from hypothesis.strategies import text
from jinja2 import Environment, UndefinedError, meta, nodes

from sae_traits.evaluation.part_evidence import Exported, Measure, MethodEvidence, PartEvidence
from sae_traits.evaluation.statistics import Interval
from sae_traits.geometry import Framing
from sae_traits.release.cards import BEGINS, render_card
from sae_traits.release.dataset_card import dataset_card, size_category
from sae_traits.release.facts import Calls, DatasetFacts, DatasetSummary, ModelFacts, Provenance, Rights, Source
from sae_traits.rendering import escape, templates
from sae_traits.schema import BackboneInfo
from sae_traits.traits.known_background import KnownBackground
from sae_traits.vocabulary import REGION_SOURCES, RegionSource

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
RUN = Provenance(
    backbone=BACKBONE,
    dictionary_metrics={"explained_variance": 0.912345, "l0": 16.0},
    contrast={"kind": "specimen"},
    contrast_in_words="The contrast is tested.",
    describer="measured",
    describer_model="sae-traits-measured@1",
    prompt="rules-1 sha256:00",
    n_problems=2,
    command="sae-traits run moths",
)
FACTS = DatasetFacts(title="Moths", sae="org/sae@0123", longest_side=512, provenance=RUN)
SUMMARY = DatasetSummary(
    rows={"default": {"train": 8, "test": 2}, "images": {"train": 4}, "latents": {"train": 3}, "preview": {}},
    n_bytes={"default": {"train": 80, "test": 20}, "images": {"train": 40}, "latents": {"train": 30}, "preview": {}},
    sha256={"default": "a", "images": "b", "latents": "c"},
    n_traits=10,
    n_images=4,
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


def card_of(
    summary: DatasetSummary = SUMMARY, run: Provenance = RUN, *, existing: str | None = None, **facts: object
) -> str:
    facts = replace(FACTS, provenance=run, **facts)
    return dataset_card(summary, facts, folder="dataset", existing=existing)


def without_comments(text: str) -> str:
    """Without the marks of the section that a person may write."""
    return re.sub(r"<!-- sae-traits: [^<>]*-->", "", text)


def section(card: str, name: str) -> str:
    return card.split(f"\n## {name}\n", 1)[1].split("\n## ", 1)[0]


def check_tables(card: str) -> None:
    """A table needs an empty line before it, and rows of as many cells as its head."""
    body = without_comments(card.split("\n---\n", 1)[1]).splitlines()
    for before, line in pairwise(body):
        if line.startswith("|"):
            assert before == "" or before.startswith("|"), f"{before!r} stands before {line!r}"
            assert not before or before.count("|") == line.count("|")


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
        {"config_name": "images", "data_files": [{"split": "train", "path": "data/images/train-*.parquet"}]},
        {"config_name": "latents", "data_files": [{"split": "train", "path": "data/latents/train-*.parquet"}]},
    ]
    assert front["pretty_name"] == "Moths"
    assert front["size_categories"] == ["n<1K"]


def test_the_paper_is_a_link_since_the_hub_does_not_read_bibtex():
    assert "](https://arxiv.org/abs/2604.01619)" in section(card_of(), "Citation")


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
    front = front_matter(card_of(summary))
    assert front["license"] == expected
    assert ("license_name" in front) == (expected == "other")
    if expected == "other":
        assert front["license_link"].endswith("#licences-and-rights")
        assert "\n## Licences and rights\n" in card_of(summary)


def test_images_without_a_licence_are_counted_in_a_warning():
    summary = replace(SUMMARY, rights=(Rights("CC BY 4.0", "A", 3), Rights(None, None, 1)))
    assert "**Warning:** 1 of 4 images came without a licence" in card_of(summary)
    assert "Warning" not in card_of()


def test_the_card_says_the_figures_and_where_they_come_from():
    card = card_of()
    for said in (
        "75.0 %",
        "50.0 %",
        "| traits | 10 |",
        "| traits that are not significant | 5 |",
        "0.9123",
        "org/sae",
        "facebook/dinov2-base",
    ):
        assert said in card, said
    assert "traits contrasted within the genus | 8 |" in card
    assert 'load_dataset("dataset", "default", split="train")' in card
    assert 'load_dataset("org/moths", "default"' in card_of(repo_id="org/moths")


def test_images_that_show_no_real_organisms_are_said_to_be_so():
    card = card_of(run=replace(RUN, note="Drawings of invented species."))
    assert "> **Drawings of invented species.**" in card
    assert "- Drawings of invented species." in section(card, "Limits")
    assert "synthetic" in front_matter(card)["tags"]
    assert "invented" not in card_of()


def test_only_the_describer_measured_is_said_to_have_measured():
    assert "its words say only what was measured" in card_of()
    assert "its words say only what was measured" not in card_of(run=replace(RUN, describer="server"))


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_values_change_neither_the_front_matter_nor_the_shape_of_the_card(value):
    def of(text: str) -> str:
        summary = replace(SUMMARY, rights=(Rights(text, text, 4),), reference_ranks={text: 10})
        run = replace(
            RUN,
            command=text,
            note=text,
            describer=text,
            describer_model=text,
            prompt=text,
            contrast={text: text},
            contrast_in_words=text,
            dictionary_metrics={text: text},
            latents=text,
            backbone=replace(BACKBONE, backbone=text, revision=text),
            source=Source(name=text, revisions=(text, text)),
            calls=Calls(n_calls=3, n_attempts=4, seconds=1.0, tokens={text: 5}),
        )
        return card_of(summary, run, title=text, sae=text, results=card_results(text))

    card, harmless = of(value), of("x")
    front, expected = front_matter(card), front_matter(harmless)
    shown = ("pretty_name", "license", "license_name")
    assert {**front, **dict.fromkeys(shown)} == {**expected, **dict.fromkeys(shown)}
    assert front["license"] == "other"
    assert len(card.splitlines()) == len(harmless.splitlines())
    body, harmless_body = (without_comments(one.split("\n---\n", 1)[1]) for one in (card, harmless))
    assert value.strip() not in body
    tags = re.compile(r"<[^>]*>")
    assert tags.findall(body) == tags.findall(harmless_body)
    assert [line.count("|") for line in body.splitlines()] == [line.count("|") for line in harmless_body.splitlines()]
    assert len(re.findall(r"\]\(", body)) == len(re.findall(r"\]\(", harmless_body))


@settings(max_examples=200, deadline=None)
@given(text(max_size=400))
def test_an_escaped_value_is_one_line_without_markup(value):
    escaped = str(escape(value))
    assert len(escaped.splitlines()) <= 1
    assert not re.search(r"[<>|`*\[\]\\~\"'{}]|&(?!#\d+;)|:(?! )", escaped)
    assert not re.search(r"(?<![^\W_])_|_(?![^\W_])", escaped), "emphasis, which does not begin or end within a word"


@settings(max_examples=20, deadline=None)
@given(text(max_size=60))
def test_any_title_survives_in_the_front_matter(title):
    shown = front_matter(card_of(title=title))["pretty_name"]
    assert shown == " ".join("".join(c if c.isprintable() else " " for c in title).split())


@pytest.mark.parametrize("name", ["dataset_card.md.jinja", "model_card.md.jinja"])
def test_a_template_with_a_missing_variable_is_an_error(name):
    environment = Environment(autoescape=True)
    environment.filters["whole"] = str
    used = meta.find_undeclared_variables(environment.parse((templates() / name).read_text()))
    assert "facts" in used
    with pytest.raises(UndefinedError):
        render_card(name, DatasetCardData(), None)


@pytest.mark.parametrize("name", ["dataset_card.md.jinja", "model_card.md.jinja", "citation.md.jinja"])
def test_every_attribute_of_the_summary_and_the_facts_that_a_card_reads_exists(name):
    tree = Environment(autoescape=True).parse((templates() / name).read_text())
    facts = ModelFacts if name.startswith("model") else DatasetFacts
    known = {"summary": DatasetSummary, "facts": facts, "run": Provenance}
    read = [(n.node.name, n.attr) for n in tree.find_all(nodes.Getattr) if isinstance(n.node, nodes.Name)]
    for owner, attribute in read:
        if owner in known:
            assert attribute in known[owner].__dataclass_fields__, f"{owner}.{attribute}"


def test_both_layers_are_named():
    card = card_of(run=replace(RUN, backbone=replace(RUN.backbone, second_layer=7)))
    assert (
        "| features | facebook/dinov2-base, revision f9e44c814b77203eaa57a6bdbbd535f21ede1415, layers 11 and 7 |"
        in card
    )


def test_what_went_into_it_is_said_with_revisions_times_tokens_and_cost():
    run = replace(
        RUN,
        source=Source(name="hf://datasets/museum/moths", revisions=("8badf00d",)),
        calls=Calls(
            n_calls=1200,
            n_attempts=1310,
            seconds=4321.5,
            tokens={"completion_tokens": 40_000, "prompt_tokens": 900_000},
            cost=1.2345,
        ),
        seconds={"collect": 3.4, "extract": 812.6},
    )
    made = section(card_of(run=run), "How it was made")
    for line in (
        "| images | hf&#58;//datasets/museum/moths, version 8badf00d |",
        "| features | facebook/dinov2-base, revision f9e44c814b77203eaa57a6bdbbd535f21ede1415, layer 11 |",
        "| SAE | org/sae&#64;0123 |",
        "| describer | measured, sae-traits-measured&#64;1 |",
        "| prompt or rules | rules-1 sha256&#58;00 |",
        "| calls | 1,200 |",
        "| sent, with repetitions | 1,310 |",
        "| seconds waited for answers, all calls added up | 4,322 |",
        "| prompt_tokens | 900,000 |",
        "| cost, in the currency of the prices given | 1.23 |",
        "| extract | 813 |",
    ):
        assert line in made.splitlines(), line
    assert "cards" not in made, "a step that is not over when the card is written has no time yet"
    assert "cost" not in card_of(run=replace(run, calls=replace(run.calls, cost=None)))
    instant = card_of(run=replace(run, calls=replace(run.calls, seconds=0.3)))
    assert "| calls | 1,200 |" in instant
    assert "waited for" not in instant, "nobody was asked"


def test_limits_say_what_was_measured_and_what_was_not():
    check_tables(card_of(run=replace(RUN, n_across_splits=3), results=card_results()))
    limits = section(card_of(results=made_results(quality=made_quality())), "Limits")
    for rate in (
        "called background, and left out, of the valid answers | 10.0% (9 of 90)",
        "invalid, and left out, of the answers | 10.0% (10 of 100)",
        "failed, of the calls | 9.1% (10 of 110)",
        "with the species' own name in it, of the descriptions | 2.5% (2 of 80)",
        "with a sentence that is said of another species, too, of the descriptions | 25.0% (20 of 80)",
        "species and latents whose images contradict each other in colour | 25.0% (5 of 20)",
        "pairs of a species' images with the same shape at the same latent (any two descriptions) | 75.0% (50.0%)",
        "changed answers, or background, when asked again with the region of another image | 80.0% (8 of 10)",
    ):
        assert f"| {rate} |" in limits.splitlines()
    assert "was not measured: there are neither masks nor boxes" in limits
    assert "sae-traits faithfulness" not in limits
    results = card_results()
    limits = section(card_of(results=replace(results, tasks=results.tasks | {"text_quality": None})), "Limits")
    assert "by its mask, or its box where there is no mask (95 % interval) | 0.910 &#91;0.900, 0.920&#93; |" in limits
    assert "`sae-traits faithfulness`" in limits
    assert "neither masks" not in limits
    unlabelled = made_results(quality=made_quality(labelled=False, asked_again=False))
    limits = section(card_of(results=unlabelled), "Limits")
    assert "own name" not in limits
    assert "`sae-traits faithfulness`" in limits
    unmeasured = card_of()
    assert "**Failure rates were not measured**" in section(unmeasured, "Limits")
    assert "recognise species?" not in unmeasured


def test_what_the_command_parts_measured_is_said_where_the_collection_has_no_masks():
    inside = Measure(value=0.944, null=0.368, by_species={})
    method = MethodEvidence(n_regions=9, n_significant=9, measures={"inside": inside}, detectors=None)
    exported = Exported(n_significant=9, n_regions=9)
    parts = PartEvidence(
        parts=(), n_images=4, n_species=2, methods={"sae": method}, differences={}, labels=exported,
        shuffled_labels=exported,
    )  # fmt: skip
    limits = section(card_of(results=made_results(quality=made_quality(), parts=parts)), "Limits")
    assert "by the files given to `sae-traits parts`, mean over species | 0.944 |" in limits
    assert "| the same for regions at random places | 0.368 |" in limits
    assert "was not measured" not in limits


@pytest.mark.parametrize("by_masks", [True, False])
def test_what_is_known_of_backgrounds_has_a_section_and_masks_that_picked_regions_are_no_proof(by_masks):
    background = KnownBackground(
        is_known=True, how="How <b>it</b> was found.", by_masks=by_masks, n_latents=9, n_left_out=4,
        mean_by_species={"Aus <b>bus": 0.62},
    )  # fmt: skip
    run = replace(RUN, background=background, use_masks=True)
    card = card_of(run=run, results=card_results())
    said = section(card, "Background")
    assert "How &#60;b&#62;it&#60;/b&#62; was found.\n" in said
    assert "Latents left out because they fire on background: 4 of 9.\n" in said
    assert "**Warning:** Probably background, do not believe their traits: Aus &#60;b&#62;bus (0.62)." in said
    assert "cannot tell the" not in section(card, "Limits")
    assert ("kept regions off what lies outside them" in section(card, "Limits")) is by_masks
    assert ("Which regions there are does not depend on the masks." in card) is not by_masks


def test_where_background_is_not_known_measured_cannot_tell_it_and_pictures_are_pointed_to():
    unknown = KnownBackground(is_known=False, how="Background is not known: nobody looked.")
    card = card_of(run=replace(RUN, background=unknown))
    assert "Look at the regions (config preview) before you believe them." in section(card, "Background")
    assert "it cannot tell the\n  organism from its background." in section(card, "Limits")
    assert "\n## Background" not in card_of()


def test_traits_that_passed_no_test_are_said_to_be_so_and_all_where_all_did():
    run = replace(RUN, significance=("5 traits passed no test.", "Too few: Aus bus."))
    said = section(card_of(run=run), "Load it")
    assert "not significant say `significant = false`.\n5 traits passed no test.\nToo few: Aus bus." in said
    assert "All traits are significant." in section(card_of(replace(SUMMARY, n_significant=10)), "Load it")


def test_the_zero_shot_scores_are_shown_with_what_speaks_against_them():
    found = section(card_of(results=card_results()), "Do the traits help to recognise species?")
    assert "| name + traits | 0.350 &#91;0.250, 0.450&#93; |" in found
    assert "Names and traits against names alone, over species: 0.050 &#91;-0.010, 0.110&#93;." in found
    assert "the species that do at least as well: 0.050." in found
    uncompared = made_results(zero_shot=made_zero_shot(gain=Interval(math.nan, math.nan, math.nan)))
    assert "against names alone" not in card_of(results=uncompared)
    assert (
        "- 1 of 16 species without a trait of a training image, kept with the name only: imageomics/bioclip." in found
    )


@pytest.mark.parametrize("regions", REGION_SOURCES)
def test_every_kind_of_regions_is_named_and_only_latents_are_filtered(regions):
    has_latents = regions not in ("gradcam", "whole")
    run = replace(RUN, regions=regions, contrast={"kind": "specimen"} if has_latents else {})
    card = card_of(run=run, sae="org/x@0" if has_latents else None)
    check_tables(card)
    assert ("of a baseline" in card) == (regions != "sae")
    assert ('input_columns="significant"' in card) == has_latents
    assert ("is the whole image, so lengths" in card) == (regions == "whole")
    assert f"| regions | {regions} |" in card


def test_photographs_without_labels_and_without_images_are_said_to_be_so():
    rows = {"default": {"test": 10}, "images": {"test": 4}}
    summary = replace(SUMMARY, rows=rows, n_bytes=rows, n_species=0, images="reference", n_without_url=3)
    card = card_of(summary, replace(RUN, latents="org/moths@0123"), repo_id="org/new")
    check_tables(card)
    assert "that came without labels" in card
    assert "**No label of these images was used.**" in card
    assert "image-classification" not in str(front_matter(card)["task_categories"])
    assert "<pre><code>sae-traits rehydrate org/new dataset-with-images</code></pre>" in card
    assert "3 of 4 have no address" in card
    assert 'row["image"]' not in card
    columns = re.findall(r"^\| (\w+) \| (\w+)", section(card, "Columns"), re.MULTILINE)
    assert columns[1:3] == [("width", "int32"), ("height", "int32")]
    assert ("image", "image") not in columns
    label_free = card_of(run=replace(RUN, label_free=True))
    assert "**Images of validation and test were described as if they had no labels**" in label_free


def test_the_images_of_bioscan_are_cited_and_other_sources_are_pointed_to():
    cited = card_of(run=replace(RUN, source=Source(name="bioscan5m", is_bioscan=True)))
    assert "Gharaee, Zahra" in cited
    assert "2406.12723" in cited
    other = card_of(run=replace(RUN, source=Source(name="moths")))
    assert "Gharaee" not in other
    assert "cite the source of the images (moths)" in other
    assert "pahuja2026traits" in other


def test_the_front_matter_passes_the_hubs_own_classes():
    card = card_of(run=replace(RUN, source=Source(name="hf://datasets/museum/moths@v1")))
    front = front_matter(card)
    data = DatasetCardData(**front)
    assert {key: value for key, value in data.to_dict().items() if key in front} == front
    assert front["source_datasets"] == ["museum/moths"]
    assert DatasetCard(card).data.to_dict()["configs"] == front["configs"]


def test_no_card_asks_for_more_information_and_no_token_of_the_environment_is_on_it(monkeypatch):
    token = "hf_thisIsATokenThatIsNotOne"
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setenv("OPENAI_API_KEY", token)
    card = card_of(results=card_results())
    assert "More Information Needed" not in card
    assert token not in card


def test_the_front_matter_says_how_large_each_split_is_and_what_is_in_it():
    front = front_matter(card_of())
    default = front["dataset_info"][0]
    assert (default["config_name"], default["description"]) == ("default", "sha256:a")
    assert default["splits"] == [
        {"name": "train", "num_bytes": 80, "num_examples": 8},
        {"name": "test", "num_bytes": 20, "num_examples": 2},
    ]
    assert {"name": "trait_id", "dtype": "string"} in default["features"]
    assert [info["config_name"] for info in front["dataset_info"]] == ["default", "images", "latents"]


def test_what_a_person_wrote_stays_in_its_place():
    edited = card_of().replace(BEGINS, f"{BEGINS}\n## Who to ask\n\nAnn, *at the museum*.", 1)
    again = card_of(title="Night moths", existing=edited)
    assert "## Who to ask\n\nAnn, *at the museum*.\n" in again
    assert "# Night moths\n" in again
    assert card_of(title="Night moths", existing=again) == again


@pytest.mark.parametrize(
    ("n", "expected"), [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (99_999, "10K<n<100K"), (10**9, "100M<n<1B")]
)
def test_sizes_have_the_names_of_the_hub(n: int, expected: str):
    assert size_category(n) == expected


def test_what_was_not_measured_is_a_dash_on_the_card():
    run = replace(
        RUN,
        dictionary_metrics={"l0": math.nan, "mse": math.inf, "dead_share": None, "another": math.nan},
        contrast={"kind": "specimen", "threshold": math.nan},
    )
    card = card_of(run=run)
    assert "nan" not in re.sub(r"\w*nan\w+|\w+nan\w*", "", card)
    assert "inf" not in re.sub(r"\w+inf|inf\w+", "", card)
    assert card.count("| – |") == 5


@pytest.mark.parametrize("regions", ["sae", "pca"])
def test_the_card_says_what_the_papers_contrast_compares(regions: RegionSource):
    card = card_of(run=replace(RUN, regions=regions, contrast={"contrast": "paper"}))
    assert "it has a larger share of the firings in the species' images than in those of its genus. A region is" in card
    assert "share of the species' individuals than of" not in card
    usual = card_of(run=replace(RUN, regions=regions))
    assert "it fires in a larger share of the species' individuals than of those of its closest relatives. A" in usual
