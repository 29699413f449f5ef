"""Agreement and contradictions, counted as traits come, against their definitions as loops over pairs."""

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_traits import described, record_of, trait_of

from sae_traits.traits.consistency import ConsistencyCounter, Tally, excluding_classes, facets

VALUES = st.frozensets(st.sampled_from("abcde"), min_size=1, max_size=3)


def counted(*rows):
    """A counter of (species, latent, description) rows, one an image."""
    records = [record_of(row, species) for row, (species, _, _) in enumerate(rows)]
    counter = ConsistencyCounter(records)
    for row, (_, latent, description) in enumerate(rows):
        counter.add(trait_of(row, latent, description), records[row])
    return counter


def agreement_of(counter):
    return {found.facet: found for found in counter.agreement()}


def contradictions_of(counter, facet="colour"):
    return next(found for found in counter.contradictions() if found.facet == facet)


@given(st.lists(VALUES, max_size=20))
def test_pairs_agree_when_they_have_a_word_in_common(values):
    tally = Tally(100)
    for value in values:
        tally.add(value, "t")
    pairs = list(combinations(values, 2))
    assert (tally.n_agreeing, tally.n_pairs) == (sum(bool(a & b) for a, b in pairs), len(pairs))


@given(st.lists(VALUES, max_size=20), st.integers(1, 4))
def test_a_full_tally_still_counts_all_values_but_tells_few_apart(values, most):
    tally = Tally(most)
    for value in values:
        tally.add(value, "t")
    assert len(tally.counts) <= most
    assert tally.n == len(values)
    assert tally.n_agreeing <= sum(bool(a & b) for a, b in combinations(values, 2))


def test_only_images_of_one_species_at_one_latent_are_compared():
    counter = counted(
        ("Gen a", 1, described(part="Wing")),
        ("Gen a", 1, described(part="wing")),
        ("Gen a", 1, described(part="leg")),
        ("Gen a", 2, described(part="leg")),
        ("Gen b", 1, described(part="leg")),
        ("Gen b", 1, described(part="leg")),
    )
    part = agreement_of(counter)["part"]
    assert part.by_species == {"Gen a": pytest.approx(1 / 3), "Gen b": 1.0}
    assert part.share == pytest.approx(2 / 3)
    assert part.n_pairs == 4
    assert part.chance == pytest.approx((1 + 6) / 15)  # two wings, four legs


def test_what_only_one_of_two_images_names_is_no_disagreement():
    counter = counted(
        ("Gen a", 1, described(part="wing", texture="hairy")), ("Gen a", 1, described(colour="red", texture="hairy"))
    )
    assert {facet: found.share for facet, found in agreement_of(counter).items()} == {"texture": 1.0}


def test_two_colours_agree_with_either():
    counter = counted(("Gen a", 1, described(colour=("red", "black"))), ("Gen a", 1, described(colour="Black")))
    assert agreement_of(counter)["colour"].share == 1.0
    assert counted(("Gen a", 1, described(colour="red"))).agreement() == ()


def test_an_attribute_that_is_not_compared_is_left_out():
    assert facets(described(part="Hind Leg", mood="calm", size="Small")) == {
        "part": frozenset({"hind leg"}), "size": frozenset({"small"})
    }  # fmt: skip


@pytest.mark.parametrize(
    ("facet", "value", "classes"),
    [
        ("colour", "dark brown with a cream margin", {"brown", "white"}),
        ("colour", "Dark Gray", {"grey"}),
        ("colour", "pale green and green", {"green"}),
        ("colour", "reddish, translucent", set()),
        ("colour", "well-reddened", set()),
        ("size", "small to large", {"small", "large"}),
        ("size", "medium", set()),
    ],
)
def test_colours_are_found_in_free_words_as_their_families(facet, value, classes):
    assert excluding_classes(facet, [value]) == classes


def test_a_species_contradicts_itself_where_most_pairs_exclude_each_other():
    colours = {1: ("red", "dark red", "blue"), 2: ("red", "green", "blue"), 3: ("brown", "dark brown"), 4: ("red",)}
    rows = [("Gen a", latent, described(colour=colour)) for latent, found in colours.items() for colour in found]
    found = contradictions_of(counted(*rows))
    # latent 1: 2 of 3 pairs, latent 2: all, latent 3: none, latent 4: no pair
    assert (found.n_groups, found.n_contradictory) == (3, 2)
    worst, other = found.examples
    assert worst.reason.startswith("Gen a, latent 2: colour ")
    assert worst.reason.endswith("100% of 3 pairs exclude each other")
    assert len(set(worst.trait_ids)) == 2
    assert other.trait_ids == ("s0-1", "s2-1") or other.trait_ids == ("s2-1", "s0-1")


def test_half_of_the_pairs_is_not_yet_a_contradiction():
    colours = [("red", "blue"), "red", "green", ("green", "blue")]
    found = contradictions_of(counted(*(("Gen a", 1, described(colour=c)) for c in colours)))
    # of six pairs three have a colour in common
    assert (found.n_groups, found.n_contradictory) == (1, 0)


def test_size_excludes_by_class_and_not_by_word():
    sizes = ("tiny", "small", "big")
    found = contradictions_of(counted(*(("Gen a", 1, described(size=s)) for s in sizes)), "size")
    assert (found.n_groups, found.n_contradictory) == (1, 1)
    assert (
        contradictions_of(counted(*(("Gen a", 1, described(size=s)) for s in sizes[:2])), "size").n_contradictory == 0
    )


def test_an_individual_counts_once_at_a_latent_however_many_images_it_has():
    records = [replace(record_of(row, "Gen a"), individual_id=individual) for row, individual in enumerate("xyxyx")]
    counter, single = ConsistencyCounter(records), ConsistencyCounter(records[:2])
    for row, part in enumerate(("wing", "leg", "wing", "wing", "head")):
        for each in (counter, single)[: 2 if row < 2 else 1]:
            each.add(trait_of(row, 1, described(part=part, colour="red" if row else "blue")), records[row])
    assert counter.agreement() == single.agreement()
    assert counter.contradictions() == single.contradictions()
    assert agreement_of(counter)["part"].n_pairs == 1


@pytest.mark.parametrize("n_images", [1, 2, 3])
def test_a_description_that_images_share_counts_once(n_images):
    counter = ConsistencyCounter([])
    for row in range(6):
        text = f"Call {row // n_images}."
        trait = trait_of(row, 1, described(text, part="wing"), n_images=n_images)
        counter.add(trait, record_of(row, "Gen a"))
    n_calls = 6 // n_images
    assert agreement_of(counter)["part"].n_pairs == n_calls * (n_calls - 1) // 2


def test_calls_of_two_splits_that_say_the_same_are_two_descriptions():
    counter = ConsistencyCounter([])
    for row, split in enumerate(("train", "test", "train", "test")):
        counter.add(trait_of(row, 1, described(part="wing"), n_images=2), record_of(row, "Gen a", split))
    assert agreement_of(counter)["part"].n_pairs == 1
