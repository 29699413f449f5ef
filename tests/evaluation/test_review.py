"""Blind sheets, what made-up raters answered on them, and what that comes to."""

import csv
import json
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from release.small_releases import odd_photographs, traits_of

from sae_traits.errors import ConfigError, StoreError
from sae_traits.evaluation.review.ratings import COLUMNS, Rating, Ratings
from sae_traits.evaluation.review.scores import more_needed, normalised, reviewed_traits, score_review
from sae_traits.evaluation.review.sheets import (
    OTHER_PLACE,
    OTHER_SENTENCE,
    TRAIT,
    Item,
    Sheet,
    content_of,
    make_sheet,
)
from sae_traits.schema import Reviewed


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    """Fifteen traits of three species, each with a sentence of its own."""
    collection = odd_photographs(tmp_path_factory.mktemp("photographs"), lambda name: None)
    traits = [
        replace(trait, description=replace(trait.description, text=f"Sentence {i}."))
        for i, trait in enumerate(traits_of(collection, 3))
    ]
    return [(collection.images[trait.candidate.image], trait) for trait in traits]


def without_latents(described, region=None):
    """The same traits, as of a run whose regions are of no latents."""
    return [
        (record, replace(trait, candidate=replace(trait.candidate, latent=None), region=region or trait.region))
        for record, trait in described
    ]


def test_regions_without_latents_have_as_many_controls(described, caplog):
    sheet = make_sheet(without_latents(described), {}, n_traits=6, seed=1)
    assert Counter(item.kind for item in sheet.items) == {TRAIT: 6, OTHER_SENTENCE: 2, OTHER_PLACE: 2}
    assert not caplog.text


def test_controls_that_there_cannot_be_are_said_to_lack(described, caplog):
    whole = replace(described[0][1].region, box=(0.0, 0.0, 10_000.0, 10_000.0))
    sheet = make_sheet(without_latents(described, whole), {}, n_traits=6, seed=1)
    assert Counter(item.kind for item in sheet.items) == {TRAIT: 6, OTHER_SENTENCE: 2}
    assert "0 of 2 controls with another place" in caplog.text


def items(n, kind=TRAIT):
    return [
        Item(
            kind=kind,
            trait_id=f"{kind}-{i}",
            content="c",
            image_id=f"i{i}",
            individual_id=f"i{i}",
            text="A wing.",
            box=(0, 0, 1, 1),
            polygons=(),
        )
        for i in range(n)
    ]


def answered(items, **raters):
    """Items with what raters said: verdicts as letters a and r, scores as digits, a dot for nothing."""
    return [
        (
            "sheet-1-ab",
            item,
            {
                name: Rating(
                    {"a": "accepted", "r": "rejected", ".": None}[verdicts[i]],
                    None if scores[i] == "." else int(scores[i]),
                )
                for name, (verdicts, scores) in raters.items()
                if verdicts[i] + scores[i] != ".."
            },
        )
        for i, item in enumerate(items)
    ]


def test_a_sheet_has_traits_and_controls_in_random_order_and_is_the_same_for_the_same_seed(described):
    sheet = make_sheet(described, {"whole": described[:8]}, n_traits=6, seed=1)
    assert Counter(item.kind for item in sheet.items) == {TRAIT: 6, OTHER_SENTENCE: 2, OTHER_PLACE: 2, "whole": 6}
    assert sheet == make_sheet(described, {"whole": described[:8]}, n_traits=6, seed=1)
    other = make_sheet(described, {"whole": described[:8]}, n_traits=6, seed=2)
    assert sheet.name != other.name
    assert [item.kind for item in sheet.items] != sorted(item.kind for item in sheet.items)
    by_id = {trait.trait_id: (record, trait) for record, trait in described}
    species = {trait.description.text: record.species for record, trait in described}
    for item in sheet.items:
        record, trait = by_id[item.trait_id]
        width, height = record.width, record.height
        is_there = np.allclose(item.box, np.array(trait.region.box) / [width, height, width, height], atol=1e-5)
        is_said = item.text == trait.description.text
        assert (is_there, is_said) == (item.kind != OTHER_PLACE, item.kind != OTHER_SENTENCE)
        if item.kind == OTHER_SENTENCE:
            assert species[item.text] != record.species
        else:
            assert item.kind == OTHER_PLACE or item.content == content_of(trait)
        assert min(item.box) >= 0
        assert item.box[0] + item.box[2] <= 1.000001


class Counted(list):
    """Counts what is asked for."""

    n_read = 0

    def __getitem__(self, number):
        self.n_read += 1
        return super().__getitem__(number)


def test_few_of_many_traits_are_read_for_a_sheet(described):
    many = Counted(described * 1000)
    assert len(make_sheet(many, {"whole": Counted(described)}, n_traits=6, seed=1).items) == 16
    assert many.n_read < 100
    record, trait = described[0]
    alone = Counted([(record, trait)] * 100_000)
    assert not {OTHER_SENTENCE} & {item.kind for item in make_sheet(alone, {}, n_traits=6, seed=1).items}
    assert alone.n_read < 1000


def test_a_later_sheet_has_other_traits_and_too_few_are_refused(described):
    first = make_sheet(described, {}, n_traits=4, seed=0)
    seen = {item.trait_id for item in first.items}
    fresh = np.array([number for number, (_, trait) in enumerate(described) if trait.trait_id not in seen])
    second = make_sheet(described, {}, n_traits=4, seed=0, number=2, fresh=fresh)
    assert not seen & {item.trait_id for item in second.items}
    with pytest.raises(ConfigError, match="there are 9; choose another --n"):
        make_sheet(described, {}, n_traits=8, seed=0, number=2, fresh=fresh)


def test_a_sheet_comes_back_as_it_was_saved_and_a_damaged_one_is_named(described, tmp_path):
    sheet = make_sheet(described, {}, n_traits=4, seed=0)
    sheet.save(tmp_path / "sheet.json")
    assert Sheet.load(tmp_path / "sheet.json") == sheet
    text = (tmp_path / "sheet.json").read_text()
    (tmp_path / "sheet.json").write_text(text.replace(TRAIT, OTHER_PLACE, 1))
    with pytest.raises(StoreError, match="damaged"):
        Sheet.load(tmp_path / "sheet.json")


def test_answers_are_read_from_an_export_and_from_a_table(tmp_path):
    exported = {"1": {"verdict": "accepted", "score": 4}, "3": {"score": 1}, "4": {}}
    values = {"format": "sae-traits review", "sheet": "sheet-1-ab", "rater": " Anna  B ", "ratings": exported}
    (tmp_path / "a.json").write_text(json.dumps(values))
    expected = {1: Rating("accepted", 4), 3: Rating(None, 1)}
    assert Ratings.read(tmp_path / "a.json") == Ratings("sheet-1-ab", "Anna B", expected)
    with (tmp_path / "carla.csv").open("w", newline="") as file:
        rows = [("1", "Accept", "4"), ("2", "", ""), ("3", "", " 1 ")]
        csv.writer(file).writerows(
            [COLUMNS, *(("sheet-1-ab", i, "", "", verdict, score, "") for i, verdict, score in rows)]
        )
    assert Ratings.read(tmp_path / "carla.csv") == Ratings("sheet-1-ab", "carla", expected)


def test_a_table_is_read_as_spreadsheets_write_it_and_one_without_answers_is_refused(tmp_path):
    file = tmp_path / "carla.csv"
    file.write_bytes(b"Sheet;Item;Verdict;Score;Rater\nsheet-1-ab;1;Reject;2;Zo\xe9\n")
    assert Ratings.read(file) == Ratings("sheet-1-ab", "Zoé", {1: Rating("rejected", 2)})
    for content, message in [
        ("sheet,item\ns,1\n", "no column verdict and no column score"),
        ("sheet,item,verdict,score,rater\ns,1,,,\n", "nothing is answered"),
    ]:
        file.write_text(content)
        with pytest.raises(ConfigError, match=message):
            Ratings.read(file)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "sae-traits names"},
        {"rater": " "},
        {"ratings": {"1": {"score": 6}}},
        {"ratings": {"1": {"verdict": "maybe"}}},
        {"ratings": []},
        {"ratings": {}},
    ],
)
def test_what_are_no_answers_is_refused_with_what_to_give(tmp_path, change):
    values = {
        "format": "sae-traits review",
        "sheet": "sheet-1-ab",
        "rater": "Anna",
        "ratings": {"1": {"score": 3}},
    } | change
    (tmp_path / "a.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match="give the file that the review page exported"):
        Ratings.read(tmp_path / "a.json")


def test_three_raters_of_known_agreement_give_the_expected_alpha_and_scores():
    """Anna and Ben agree, Carla differs in one verdict of ten; Ben gives a point more each time.

    Of 30 verdicts 14 are accepted, and 2 of 30 pairable pairs differ: alpha = 1 - (2/30) / (2 x 14 x 16 / (30 x 29)).
    """
    ten = items(10)
    rated = answered(
        ten, Anna=("aaaaarrrrr", "4444211112"), Ben=("aaaaarrrrr", "5555322223"), Carla=("raaaarrrrr", "4444211112")
    )
    scores = score_review(rated)
    assert scores.alpha_verdict.mean == pytest.approx(1 - 58 / 448)
    assert scores.alpha_verdict.low < scores.alpha_verdict.mean <= scores.alpha_verdict.high
    (kind,) = scores.kinds
    assert (kind.n_items, kind.n_ratings) == (10, 30)
    assert kind.accepted.mean == pytest.approx(14 / 30)
    assert kind.score.mean == pytest.approx((2.4 + 3.4 + 2.4) / 3)
    assert [rater.mean_score for rater in scores.raters] == pytest.approx([2.4, 3.4, 2.4])
    found = reviewed_traits(rated)
    third = (2.4 + 3.4 + 2.4) / 3 - 2.4  # what a rater's mean lies below the mean of all
    assert found["trait-0", "c"] == Reviewed(
        verdict="accepted", score=pytest.approx(4 + third), n_raters=3, sheet="sheet-1-ab"
    )
    assert found["trait-9", "c"].verdict == "rejected"
    same = answered(ten, Anna=("aaaaarrrrr", "4444211112"), Ben=("aaaaarrrrr", "4444211112"))
    assert score_review(same).alpha_score.mean == pytest.approx(1)


def test_a_rater_who_always_answers_the_same_is_reported_and_does_not_count():
    rated = answered(items(6), Anna=("aarrar", "541253"), Zoe=("aaaaaa", "555555"))
    scores = score_review(rated)
    assert [(rater.name, rater.always_same) for rater in scores.raters] == [("Anna", False), ("Zoe", True)]
    assert any("Zoe: 6 items" in line and "ALWAYS THE SAME ANSWER" in line for line in scores.lines())
    assert not any("Zoe" in line or "Anna" in line for line in scores.lines(is_public=True))
    assert scores.kinds[0].accepted.mean == pytest.approx(0.5)
    assert math.isnan(scores.alpha_score.mean), "one rater is left, who agrees with nobody"
    assert {one.n_raters for one in reviewed_traits(rated).values()} == {1}
    assert not any(rater.always_same for rater in score_review(answered(items(4), Zoe=("aaaa", "5555"))).raters)


def test_controls_are_scored_apart_and_are_no_reviews_of_traits():
    mixed = items(3) + items(3, OTHER_PLACE)
    rated = answered(mixed, Anna=("aaarrr", "554112"), Ben=("aarrra", "543211"))
    own, control = score_review(rated).kinds
    assert (own.kind, control.kind) == (TRAIT, OTHER_PLACE)
    assert own.score.mean > 4 > 2 > control.score.mean
    assert {trait for trait, _ in reviewed_traits(rated)} == {"trait-0", "trait-1", "trait-2"}
    assert reviewed_traits(rated)["trait-2", "c"].verdict == "disputed"


def test_scores_less_the_raters_mean_do_not_depend_on_who_is_strict():
    scores = np.array([[1.0, 2, 3], [3, 4, 5], [2, math.nan, 4]])
    found = normalised(scores)
    assert found[0].tolist() == found[1].tolist() == [2, 3, 4]
    assert np.isnan(found[2, 1])
    assert np.nanmean(found) == pytest.approx(3)


def test_how_many_more_are_needed_follows_from_the_spread():
    spread = np.array([1.0, 5.0] * 8)  # standard deviation 2.066: (1.96 x 2.066 / 0.5)^2 = 65.6
    assert more_needed(spread, 0.5) == 66 - 16
    assert more_needed(spread, 2.0) == 0
    assert more_needed(spread[:1], 0.5) is None


@pytest.mark.parametrize("score", ["3.9", "true", "[4]", '"four"', "6"])
def test_a_score_that_is_none_of_the_rubric_is_refused_and_not_rounded(tmp_path, score):
    text = f'{{"format": "sae-traits review", "sheet": "s", "rater": "A", "ratings": {{"1": {{"score": {score}}}}}}}'
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ConfigError, match=r"cannot read ratings from .*a\.json"):
        Ratings.read(tmp_path / "a.json")


def test_an_item_with_two_answers_is_refused_and_4_0_is_4(tmp_path):
    table = "sheet,item,verdict,score,rater\ns,1,accepted,4.0,A\ns,1,accepted,4.0,A\n"
    (tmp_path / "a.csv").write_text(table)
    assert Ratings.read(tmp_path / "a.csv").by_item == {1: Rating("accepted", 4)}
    (tmp_path / "a.csv").write_text(f"{table}s,1,rejected,1,A\n")
    with pytest.raises(ConfigError, match="item 1 has two rows with different answers"):
        Ratings.read(tmp_path / "a.csv")
