"""Two species side by side: each latent under the species in which it fires more, tested between the two alone."""

import dataclasses
from types import MappingProxyType

import numpy as np
import pytest
from evaluation.made_results import latents_of
from scipy.sparse import csr_array
from traits.made_traits import collection_of, described, trait_of

from sae_traits.errors import ConfigError
from sae_traits.evaluation.compared_species import MAX_LINES, compare_species
from sae_traits.schema import Taxon
from sae_traits.steps.compare import _species_named
from sae_traits.traits.firing_shares import FiringShares, Share
from sae_traits.traits.species_counts import SpeciesCounts

BOTH = ("Aus bus", "Aus cus")


def counts_of(individuals, **fired):
    """Individuals of three species, and of each those in which each latent fired."""
    taxa = tuple(Taxon(genus="Aus", species=f"Aus {name}") for name in ("bus", "cus", "dus"))
    table = csr_array(np.array([fired[name] for name in ("bus", "cus", "dus")], dtype=np.int32))
    return SpeciesCounts(taxa, table.shape[1], np.array(individuals), table, table.astype(np.int64))


def firing(**others):
    training = counts_of((20, 20, 20), bus=[19, 2, 18, 15], cus=[1, 18, 17, 15], dus=[20, 20, 0, 20])
    held_out = counts_of((4, 4, 4), bus=[4, 0, 3, 1], cus=[0, 1, 3, 4], dus=[4, 4, 4, 4])
    return dataclasses.replace(FiringShares(training, held_out), **others)


def compared(firing_shares=None, n_latents=4, on_organism=MappingProxyType({}), on_background=()):
    collection = collection_of([species for species in BOTH for _ in range(5)])
    colours = ["red"] * 5 + ["blue"] * 5
    traits = [
        trait_of(row, z, described(f"Region {z}.", colour=colour))
        for row, colour in enumerate(colours)
        for z in range(n_latents)
    ]
    traits = [
        dataclasses.replace(trait, candidate=dataclasses.replace(trait.candidate, background=0.1)) for trait in traits
    ]
    latents = latents_of(collection, traits)
    return compare_species(collection, traits, latents, firing_shares or firing(), BOTH, on_organism, on_background)


def test_each_latent_stands_under_the_species_in_which_it_fires_more():
    result = compared()
    assert result.individuals == ((20, 4), (20, 4))
    assert [[row.latent for row in found] for found in result.telling] == [[0, 2], [1]]
    first = result.telling[0][0]
    assert (first.training, first.training_other) == (Share(19, 20), Share(1, 20))
    assert (first.held_out, first.held_out_other) == (Share(4, 4), Share(0, 4))
    assert first.q_value < 1e-6
    assert str(first.verdict) == "trust"
    assert first.text == "Region 0."
    assert [(one.name, one.value, one.share, one.share_of_relatives) for one in first.shared] == [
        ("colour", "red", 1.0, 0.0)
    ]


def test_words_that_are_said_half_as_often_of_the_other_have_a_mark():
    collection = collection_of([species for species in (*BOTH, "Aus dus") for _ in range(5)])
    traits = [
        *(trait_of(row, 0, described(colour="red", pattern="plain")) for row in range(5)),
        *(trait_of(row, 1, described(colour="blue", pattern="plain")) for row in range(5, 10)),
        *(trait_of(row, 3, described(colour="red")) for row in (5, 6)),
        *(trait_of(row, 2, described(colour="red")) for row in range(10, 15)),
    ]
    result = compare_species(collection, traits, latents_of(collection, traits), firing(), BOTH, {})
    assert [line.strip() for line in result.lines() if "colour" in line and "*" in line] == [
        "colour red* (100 %, other 40 %), pattern plain (100 %)",
        "colour blue* (100 %, other 0 %), pattern plain (100 %)",
    ]


def test_what_no_word_tells_apart_is_not_trusted():
    collection = collection_of([species for species in BOTH for _ in range(5)])
    traits = [trait_of(row, row // 5, described(colour="red")) for row in range(10)]
    result = compare_species(collection, traits, latents_of(collection, traits), firing(), BOTH, {})
    assert "no word says how it differs" in result.telling[0][0].verdict.reasons


def test_what_is_said_more_often_of_one_at_whichever_region_is_said_of_both():
    collection = collection_of([species for species in BOTH for _ in range(4)])
    traits = [
        *(trait_of(row, 0, described(colour="red", size="small")) for row in range(4)),
        trait_of(0, 2, described(colour="blue")),
        *(trait_of(row, 1, described(colour="blue", size="small")) for row in range(4, 8)),
        trait_of(4, 2, described(colour="red")),
        trait_of(5, 2, described(colour="red")),
        trait_of(5, 3, described(colour="red")),
    ]
    result = compare_species(collection, traits, latents_of(collection, traits), firing(), BOTH, {})
    said = [[(word.name, word.value, word.share, word.other_share) for word in words] for words in result.words]
    assert said == [[("colour", "red", 1.0, 0.5)], [("colour", "blue", 1.0, 0.25)]]
    assert [line.strip() for line in result.lines() if "  Said more often" in line] == [
        "Said more often of Aus bus than of Aus cus: colour red (100 %, other 50 %)",
        "Said more often of Aus cus than of Aus bus: colour blue (100 %, other 25 %)",
    ]


def test_what_is_as_frequent_in_the_other_or_not_found_again_is_not_trusted():
    (_, same), (again,) = compared().telling
    assert str(same.verdict) == (
        "do not use: not significant, less than twice as often, not so in held-out individuals"
    )
    assert str(again.verdict) == "look first: not so in held-out individuals"
    none_held_out = counts_of((0, 0, 0), bus=[0] * 4, cus=[0] * 4, dus=[0] * 4)
    assert str(compared(firing(held_out=none_held_out)).telling[1][0].verdict) == "trust"


def test_a_share_of_no_held_out_individuals_of_the_other_is_none():
    none_of_other = counts_of((4, 0, 0), bus=[4, 0, 3, 1], cus=[0] * 4, dus=[0] * 4)
    result = compared(firing(held_out=none_of_other))
    assert str(result.telling[0][0].verdict) == "trust"
    assert any("100 %, none " in line for line in result.lines())


def test_a_latent_that_lies_beside_the_organism_is_not_to_be_used():
    first = compared(on_organism={"Aus bus": {"0": 0.4}}).telling[0]
    assert {row.latent: str(row.verdict) for row in first}[0] == "do not use: beside the organism"


def test_only_the_two_species_are_tested():
    """The third has latent 0 as often as the first: among all relatives it would tell little."""
    other = counts_of((20, 20, 20), bus=[19, 2, 18, 15], cus=[1, 18, 17, 15], dus=[0, 0, 0, 0])
    assert compared(firing(training=other)).telling == compared().telling


def test_latents_on_background_are_not_tested_and_cost_the_others_nothing():
    first, without = compared().telling[0][0], compared(on_background=[1, 3]).telling
    assert [[row.latent for row in found] for found in without] == [[0, 2], []]
    assert without[0][0].q_value < first.q_value
    alone = compared(on_background=[1, 2, 3]).telling[0][0]
    assert alone.q_value < without[0][0].q_value


def test_where_nothing_is_shared_it_is_said_why():
    collection = collection_of([species for species in BOTH for _ in range(5)])
    colours = ["red", "blue", "grey", "white"]
    traits = [trait_of(row, 0, described(colour=colour)) for row, colour in enumerate(colours)]
    traits.append(trait_of(5, 1, described(colour="red")))
    result = compare_species(collection, traits, latents_of(collection, traits), firing(), BOTH, {})
    lines = [line.strip() for line in result.lines()]
    assert "nothing that most of them share" in lines
    assert "one alone shares nothing" in lines
    assert [[row.n_described for row in found] for found in result.telling] == [[4], [1]]


def test_the_terminal_shows_the_best_of_each():
    lines = compared().lines()
    assert lines[0] == (
        "Aus bus (20 training and 4 held-out individuals) and Aus cus (20 training and 4 held-out individuals)"
    )
    assert "In Aus bus more than in Aus cus: 2 latents, 1 of them to trust" in lines
    row = next(line for line in lines if line.strip().startswith("0 "))
    assert row.split() == ["0", "95", "%,", "5", "%", "100", "%,", "0", "%", *row.split()[9:10], "0.10", "trust"]
    assert MAX_LINES == 10


def test_a_species_of_which_nothing_was_learnt_is_refused():
    training = firing().training
    without = dataclasses.replace(
        training, taxa=training.taxa[1:], n_individuals=training.n_individuals[1:], fired=training.fired[1:],
        patches=training.patches[1:],
    )  # fmt: skip
    with pytest.raises(ConfigError, match="Aus bus: no individual was learnt from"):
        compared(firing(training=without))


NAMES = ("Vanessa atalanta", "Vanessa cardui", "Vanessa carduipennis")


@pytest.mark.parametrize("name", ["Vanessa atalanta", "vanessa  Atalanta", "Vanessa_atalanta", "atalanta", "ATAL"])
def test_a_species_is_named_by_what_no_other_has(name):
    assert _species_named(name, NAMES) == "Vanessa atalanta"


def test_a_whole_name_is_that_species_although_another_begins_with_it():
    assert _species_named("vanessa cardui", NAMES) == "Vanessa cardui"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Vanessa", "stands for Vanessa atalanta, Vanessa cardui, Vanessa carduipennis; say which"),
        ("atalanto", "has no species atalanto; did you mean Vanessa atalanta"),
        ("Bombus", "has no species Bombus; there are Vanessa atalanta"),
    ],
)
def test_another_name_is_refused_with_what_there_is(name, message):
    with pytest.raises(ConfigError, match=message):
        _species_named(name, NAMES)
