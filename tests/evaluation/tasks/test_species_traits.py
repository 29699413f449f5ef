"""What the report says of each species: what tells it from its relatives, how often, and whether to believe it."""

import dataclasses
import math
import re

import numpy as np
import pytest
from evaluation.made_results import latents_of, made_evidence, section
from scipy.sparse import csr_array
from traits.made_traits import box_region, collection_of, described, trait_of

from sae_traits.evaluation.results import Results, run_tasks
from sae_traits.evaluation.tasks.species_traits import MAX_SPECIES, SpeciesTraits
from sae_traits.schema import Contrast, Taxon
from sae_traits.traits.firing_shares import FiringShares
from sae_traits.traits.species_counts import SpeciesCounts

CONTRAST = Contrast(f_species=0.9, f_reference=0.1, effect=2.0, q_value=0.01, significant=True, reference_rank="genus")


def with_contrast(trait, **numbers):
    """The trait with some numbers of its contrast changed, and hardly background."""
    contrast = dataclasses.replace(CONTRAST, **numbers)
    return dataclasses.replace(trait, candidate=dataclasses.replace(trait.candidate, contrast=contrast, background=0.1))


def of_split(collection, *splits):
    """The images in the given splits."""
    images = [dataclasses.replace(record, split=s) for record, s in zip(collection.images, splits, strict=True)]
    return dataclasses.replace(collection, images=tuple(images))


def rows_of(collection, traits, **others):
    """The rows of the tables of species in the report, each as its species and its cells but for the pictures."""
    rows, species = [], None
    for line in section(SpeciesTraits(), made_evidence(collection, traits, **others)).splitlines():
        if line.startswith("### "):
            species = line.removeprefix("### ")
        elif line.startswith("| !["):
            rows.append([species, *line.strip("| ").split(" | ")[2:]])
    return rows


def test_what_most_individuals_share_is_said_and_text_of_data_is_no_markup():
    collection = collection_of(["Aus bus", "Aus bus", "Aus bus", "Aus cus", "Aus cus", "Aus"])
    nameless = dataclasses.replace(collection.images[5], taxon=Taxon())
    collection = dataclasses.replace(collection, images=(*collection.images[:5], nameless))
    traits = [
        trait_of(0, 7, described(part="wing", colour="red", pattern="plain")),
        trait_of(1, 7, described(part="wing", colour="red", pattern="banded")),
        trait_of(2, 7, described(part="leg", colour="black", pattern="spotted")),
        trait_of(0, 5, described(colour="grey")),
        trait_of(3, 9, described("<b>x</b>", colour="a|b")),
        trait_of(4, 9, described("<b>x</b>", colour="a|b")),
        trait_of(5, 9, described(colour="blue")),
    ]
    assert [row[:2] for row in rows_of(collection, traits)] == [
        ["Aus bus", "latent 7, described from 3 of 3 individuals: part wing (67 %), colour red (67 %)"],
        ["Aus bus", "latent 5, described from 1 of 3 individuals: one alone shares nothing"],
        ["Aus cus", "latent 9, described from 2 of 2 individuals: colour a&#124;b (100 %)"],
    ]


def test_a_latent_whose_regions_show_background_is_not_to_be_used_and_comes_last():
    collection = collection_of(["Aus bus"] * 10)

    def on_background(row, latent, background):
        trait = with_contrast(trait_of(row, latent, described(colour="red")))
        return dataclasses.replace(trait, candidate=dataclasses.replace(trait.candidate, background=background))

    traits = [on_background(row, 3, 0.4 if row < 5 else 0.8) for row in range(10)]
    traits += [on_background(row, 7, 0.25) for row in range(5)]
    rows = rows_of(collection, traits, latents=latents_of(collection, traits))
    assert [row[-1] for row in rows] == [
        "look first: no word says how it differs (background 0.25)",
        "do not use: likely background, no word says how it differs (background 0.60)",
    ]


def test_a_latent_whose_regions_lie_beside_the_organism_by_boxes_is_not_to_be_used():
    collection = collection_of(["Aus bus"] * 5)
    images = [dataclasses.replace(record, animal_box=(40.0, 40.0, 30.0, 30.0)) for record in collection.images]
    beside, on = box_region(10.0, 10.0, 20.0, 20.0), box_region(45.0, 45.0, 20.0, 20.0)
    traits = [
        with_contrast(trait_of(row, latent, described(colour="red"), region=region))
        for row in range(5)
        for latent, region in ((3, beside), (7, on))
    ]
    boxed = dataclasses.replace(collection, images=tuple(images))
    assert [(row[1].partition(",")[0], row[-1]) for row in rows_of(boxed, traits)] == [
        ("latent 7", "look first: no word says how it differs (background 0.10)"),
        ("latent 3", "do not use: beside the organism, no word says how it differs (background 0.10)"),
    ]


def test_both_shares_are_said_with_who_the_relatives_are():
    collection = collection_of(["Aus bus", "Xus yus"])
    first = trait_of(0, 7, described())
    traits = [with_contrast(first, f_species=0.92, f_reference=0.004), trait_of(1, 3, described())]
    traits[1] = with_contrast(traits[1], reference_rank="collection", f_reference=0.0)
    assert [row[2] for row in rows_of(collection, traits)] == [
        "in 92 % of Aus bus (9 of 10 individuals), 0.4 % of the rest of its genus, Aus",
        "in 90 % of Xus yus (9 of 10 individuals), 0 % of all other species",
    ]
    untested = with_contrast(first, f_species=0.031, f_reference=0.012, q_value=math.nan, significant=False)
    ((_, _, shares, _, verdict),) = rows_of(collection, [untested])
    assert shares == "3 % of the firings in Aus bus, 1 % in its genus, Aus"
    assert verdict.startswith("look first: not significant")


def shares_of(n_species):
    """Of training individuals all fire, of held-out ones those of the first species alone; in each species ten."""
    taxa = tuple(Taxon(genus="Aus", species=f"Aus s{n}") for n in range(n_species))
    training = csr_array(np.full((n_species, 8), 10, dtype=np.int32))
    held_out = csr_array(np.array([[10] * 8, *[[0] * 8] * (n_species - 1)], dtype=np.int32))
    n_individuals = np.full(n_species, 10)
    return FiringShares(
        SpeciesCounts(taxa, 8, n_individuals, training, training.astype(np.int64)),
        SpeciesCounts(taxa, 8, n_individuals, held_out, held_out.astype(np.int64)),
    )


@pytest.mark.parametrize(
    ("n_species", "reference"),
    [
        (2, "Aus s1"),
        (3, "Aus s1 and Aus s2"),
        (4, "Aus s1, Aus s2 and Aus s3"),
        (5, "the rest of its genus, Aus (4 species)"),
    ],
)
def test_relatives_are_named_where_they_are_few_and_held_out_individuals_are_those_in_which_it_fires(
    n_species, reference
):
    splits = ["train"] * 3 + ["test"] * 2
    collection = of_split(collection_of(["Aus s0"] * 5), *splits)
    traits = [with_contrast(trait_of(row, 7, described())) for row in range(5)]
    ((_, _, shares, found, verdict),) = rows_of(collection, traits, firing=lambda: shares_of(n_species))
    assert shares == f"in 90 % of Aus s0 (9 of 10 individuals), 10 % of {reference}"
    assert found == f"in 100 % (10 of 10) of the species, 0 % (0 of {10 * (n_species - 1)}) of its relatives"
    assert verdict == "look first: no word says how it differs (background 0.10)"
    ((*_, verdict),) = rows_of(
        of_split(collection_of(["Aus s1"] * 5), *splits), traits, firing=lambda: shares_of(n_species)
    )
    assert verdict == "look first: not so in held-out individuals, no word says how it differs (background 0.10)"


def test_what_says_something_new_comes_before_what_says_the_same_again():
    collection = collection_of(["Aus bus"] * 2)
    red = {"colour": "red"}
    said = {1: red, 2: {**red, "place": "edge"}, 3: {"colour": "blue"}, 4: {}, 5: red}
    shares = {1: (0.95, 0), 2: (0.9, 0), 3: (0.85, 0), 4: (0.8, 0), 5: (0.9, 0.8)}
    traits = [
        [with_contrast(trait_of(row, latent, described(**values)), f_species=own, f_reference=other) for row in (0, 1)]
        for (latent, values), (own, other) in zip(said.items(), shares.values(), strict=True)
    ]
    for of_latents, rows in ((traits, [1, 3, 2]), (traits[:3], [1, 3, 2]), ([*traits[:2], traits[4]], [1, 2, 5])):
        shown = [trait for of_latent in of_latents for trait in of_latent]
        assert [row[1].partition(",")[0] for row in rows_of(collection, shown)] == [f"latent {n}" for n in rows]
    rows = rows_of(collection, [*traits[0], *traits[1], *traits[4]])
    assert rows[1][1].endswith("; says nothing new beside latent 1, so perhaps the same trait")
    assert rows[2][-1].startswith("look first: less than twice as often"), "what speaks against it counts for more"
    assert rows_of(collection, [*traits[2], *traits[3]])[1][1].endswith(": nothing that most of them share")


def test_all_colours_that_enough_individuals_have_are_said_and_fewer_of_them_are_nothing_new():
    said = {1: ("red", "black"), 2: ("black",), 3: ("black", "blue")}
    collection = collection_of(["Aus bus"] * 3)
    traits = [
        with_contrast(trait_of(row, latent, described(colour=colours[: 1 + (row != 1)])), f_species=1 - latent / 10)
        for latent, colours in said.items()
        for row in range(3)
    ]
    assert [row[1].partition(": ")[2] for row in rows_of(collection, traits)] == [
        "colour red (100 %), colour black (67 %)",
        "colour black (100 %), colour blue (67 %)",
        "colour black (100 %); says nothing new beside latent 1, so perhaps the same trait",
    ]


def bold_words(cell):
    """What stands in bold in a cell, with what stands behind it."""
    return re.findall(r"\*\*(.*?)\*\* \((.*?)\)", cell)


def described_species(words, n_individuals=5):
    """Images of species, and a trait per individual and latent, given what is said of so many of each.

    Args:
        words: species -> latent -> what is said of how many individuals, the first ones first.
        n_individuals: per species.
    """
    collection = collection_of([species for species in words for _ in range(n_individuals)])
    traits = []
    for number, latents in enumerate(words.values()):
        for latent, said in latents.items():
            texts = [text for text, n in said for _ in range(n)]
            traits += [
                with_contrast(
                    trait_of(number * n_individuals + i, latent, described(**text)), f_species=1 - latent / 20
                )
                for i, text in enumerate(texts)
            ]
    return collection, traits


RED, BLUE, BANDED, PLAIN = {"colour": "red"}, {"colour": "blue"}, {"pattern": "banded"}, {"pattern": "plain"}


@pytest.mark.parametrize(
    ("first", "rows"),
    [
        (RED | PLAIN, [("latent 1", [("pattern plain", "100 %, relatives 40 %")]), ("latent 2", ["blue"])]),
        (RED, [("latent 2", ["blue"]), ("latent 1", [])]),
    ],
)
def test_words_that_are_said_half_as_often_of_relatives_are_bold_and_come_first(first, rows):
    """Of five individuals of the relative, at whichever latents, three are red and banded, and two plain and blue."""
    words = {
        "Aus s0": {1: [(first, 5)], 2: [(BLUE | BANDED, 5)]},
        "Aus s1": {5: [(RED | BANDED, 3), (BLUE | PLAIN, 2)], 6: [(RED | BANDED, 1)]},
    }
    collection, traits = described_species(words)
    found = [row for row in rows_of(collection, traits, firing=lambda: shares_of(2)) if row[0] == "Aus s0"]
    blue = ("colour blue", "100 %, relatives 40 %")
    expected = [(name, [blue if word == "blue" else word for word in bold]) for name, bold in rows]
    assert [(row[1].partition(",")[0], bold_words(row[1])) for row in found] == expected


@pytest.mark.parametrize(
    ("n_relatives", "bold"), [(1, []), (2, []), (3, []), (4, [("colour red", "100 %, relatives 25 %")])]
)
def test_a_word_tells_a_species_from_each_relative_that_is_named_and_from_more_together(n_relatives, bold):
    relatives = {f"Aus s{n}": {5: [(BLUE if n > 1 else RED, 5)]} for n in range(1, n_relatives + 1)}
    collection, traits = described_species({"Aus s0": {1: [(RED, 5)]}} | relatives)
    row = rows_of(collection, traits, firing=lambda: shares_of(n_relatives + 1))[0]
    assert bold_words(row[1]) == bold


@pytest.mark.parametrize(("n_individuals", "is_bold"), [(4, False), (5, True)])
def test_nothing_is_bold_of_few_individuals(n_individuals, is_bold):
    words = {"Aus s0": {1: [(RED, n_individuals)]}, "Aus s1": {5: [(BLUE, 5)]}}
    row = rows_of(*described_species(words), firing=lambda: shares_of(2))[0]
    assert bool(bold_words(row[1])) is is_bold


def test_a_word_is_bold_only_if_held_out_individuals_bear_it_out():
    """Training individuals of the relative are never red; one of its two held-out ones is, or both are."""

    def bold(n_red, n_described=6):
        words = {"Aus s0": {1: [(RED, 6)]}, "Aus s1": {2: [(BLUE, 6 - n_red), (RED, n_red)]}}
        collection, traits = described_species(words, n_individuals=6)
        splits = [*["train"] * 4, *["test"] * 2] * 2
        rows = rows_of(of_split(collection, *splits), traits[: 6 + n_described], firing=lambda: shares_of(2))
        return [word for word, _ in bold_words(rows[0][1])]

    assert bold(n_red=1) == ["colour red"]
    assert bold(n_red=2) == []
    assert bold(n_red=2, n_described=4) == ["colour red"], "no held-out individual of the relative has a region"


def test_nothing_is_bold_where_no_relative_has_a_region_or_relatives_are_not_known():
    words = {"Aus s0": {1: [(RED, 5)]}, "Aus s1": {2: [(BLUE, 5)]}}
    collection, traits = described_species(words)
    ((_, said, *_),) = rows_of(collection, traits[:5], firing=lambda: shares_of(2))
    assert bold_words(said) == []
    assert [bold_words(row[1]) for row in rows_of(collection, traits)] == [[], []]
    assert [bold_words(row[1]) for row in rows_of(collection, traits, firing=lambda: shares_of(2))] == [
        [("colour red", "100 %, relatives 0 %")],
        [("colour blue", "100 %, relatives 0 %")],
    ]


def test_what_can_be_trusted_comes_first_then_the_larger_difference():
    words = {"Aus s0": {latent: [(RED, 5)] for latent in (1, 2, 3, 4)}, "Aus s1": {5: [(BLUE, 5)]}}
    collection, traits = described_species(words)
    shares = {1: (0.6, 0.1), 2: (0.9, 0.1), 3: (1.0, 0.0), 4: (0.9, 0.8), 5: (0.9, 0.8)}
    traits = [
        with_contrast(trait, f_species=own, f_reference=other, significant=latent < 3, q_value=0.01)
        for trait in traits
        for latent in [trait.candidate.latent]
        for own, other in [shares[latent]]
    ]
    rows = [row for row in rows_of(collection, traits, firing=lambda: shares_of(2)) if row[0] == "Aus s0"]
    assert [(row[1].partition(",")[0], row[4]) for row in rows] == [
        ("latent 2", "trust (background 0.10)"),
        ("latent 1", "trust (background 0.10)"),
        ("latent 3", "look first: not significant (background 0.10)"),
    ]
    result = SpeciesTraits().run(made_evidence(collection, traits, firing=lambda: shares_of(2)))
    assert result.verdicts == {"trust": 2, "look first": 1, "do not use": 2}
    assert result.without_trusted == ("Aus s1",)
    assert SpeciesTraits().lines(result) == [
        "verdicts  2 trust, 1 look first, 2 do not use, of the latents of 2 species",
        "          against the others: not significant (3), less than twice as often (2), "
        "not so in held-out individuals (1)",
        "          1 species without one to trust",
    ]
    told = section(SpeciesTraits(), made_evidence(collection, traits, firing=lambda: shares_of(2)))
    assert "most often first: not significant (3), less than twice as often (2), not so in held-out" in told


def test_a_latent_with_another_word_that_tells_is_no_repetition():
    words = {
        "Aus s0": {1: [(RED, 5)], 2: [(RED | BANDED, 5)], 3: [(RED | {"texture": "even"}, 5)]},
        "Aus s1": {5: [(BLUE | PLAIN | {"texture": "even"}, 5)]},
    }
    rows = rows_of(*described_species(words), firing=lambda: shares_of(2))[:3]
    assert [(row[1].partition(",")[0], "nothing new" in row[1]) for row in rows] == [
        ("latent 1", False),
        ("latent 2", False),
        ("latent 3", True),
    ]


def test_what_speaks_against_a_latent_counts_for_more_than_a_word_that_tells_and_what_says_nothing_comes_last():
    words = {"Aus s0": {1: [({}, 5)], 2: [(PLAIN, 5)], 3: [(RED, 5)], 4: [(BLUE, 4)]}, "Aus s1": {5: [(PLAIN, 5)]}}
    collection, traits = described_species(words)
    of_red = [trait.candidate.latent == 3 for trait in traits]
    traits = [
        with_contrast(trait, f_species=0.4, f_reference=0.3) if is_red else trait
        for trait, is_red in zip(traits, of_red, strict=True)
    ]
    result = SpeciesTraits().run(
        made_evidence(collection, traits, latents=latents_of(collection, traits), firing=lambda: shares_of(2))
    )
    assert [row.picked_by for row in result.traits if row.species == "Aus s0"] == ["latent 2", "latent 3", "latent 1"]


def test_a_repetition_of_what_can_be_trusted_comes_after_what_says_something_new():
    """Latent 2 says what latent 1 says, latent 3 what tells nothing, and latent 4 was not found to be significant."""
    words = {
        "Aus s0": {1: [(RED, 5)], 2: [(RED, 5)], 3: [(BANDED, 5)], 4: [(BLUE | PLAIN, 5)]},
        "Aus s1": {5: [(BANDED, 5)]},
    }
    collection, traits = described_species(words)
    traits = [with_contrast(one, significant=False) if one.candidate.latent == 4 else one for one in traits]
    traits = [with_contrast(one, f_reference=0.8) if one.candidate.latent == 5 else one for one in traits]
    rows = [row for row in rows_of(collection, traits, firing=lambda: shares_of(2)) if row[0] == "Aus s0"]
    assert [(row[1].partition(",")[0], row[-1].partition(" (")[0]) for row in rows] == [
        ("latent 1", "trust"),
        ("latent 4", "look first: not significant"),
        ("latent 3", "look first: no word says how it differs"),
    ]
    rows = rows_of(collection, [one for one in traits if one.candidate.latent < 3], firing=lambda: shares_of(2))
    assert [row[-1].partition(" (")[0] for row in rows] == ["look first: no word says how it differs"] * 2


def test_what_was_seen_in_few_individuals_is_not_trusted_and_comes_after_what_has_the_same_verdict():
    words = {
        "Aus s0": {1: [(RED, 4)], 2: [(BLUE, 5)], 3: [(RED, 1)], 4: [(BANDED, 5)]},
        "Aus s1": {5: [({"colour": "grey"}, 5)]},
    }
    collection, traits = described_species(words)
    traits = [
        with_contrast(trait, f_species=0.4, f_reference=0) if trait.candidate.latent == 4 else trait for trait in traits
    ]
    rows = rows_of(collection, traits, firing=lambda: shares_of(2))[:3]
    assert [(row[1].partition(",")[0], row[-1].partition(" (")[0]) for row in rows] == [
        ("latent 2", "trust"),
        ("latent 4", "look first: in less than half"),
        ("latent 1", "look first: regions in few individuals, no word says how it differs"),
    ]


def test_individuals_count_once_and_held_out_ones_by_themselves():
    collection = of_split(collection_of(["Aus bus"] * 6), "train", "train", "test", "test", "train", "validation")
    individuals = ("beetle", "beetle", "another", "another", "third", "fourth")
    images = [
        dataclasses.replace(record, individual_id=name)
        for record, name in zip(collection.images, individuals, strict=True)
    ]
    collection = dataclasses.replace(collection, images=tuple(images))
    colours = ("red", "red", "blue", "white", "blue")
    traits = [trait_of(row, 7, described(colour=colour, size="small")) for row, colour in enumerate(colours)]
    traits[4] = trait_of(4, 7, described(colour="blue", size="large"))
    ((_, said, _, found, _),) = rows_of(collection, traits)
    assert said == "latent 7, described from 3 of 4 individuals: colour blue (67 %), size small (67 %)"
    assert found == "in 1 of 2 held-out individuals"
    (trait,) = SpeciesTraits().run(made_evidence(collection, traits)).traits
    assert (trait.n_individuals, trait.n_of_species) == (3, 4)


def test_half_of_the_individuals_are_not_most():
    collection = collection_of(["Aus bus"] * 4)
    traits = [trait_of(row, 7, described(size="small" if row < 2 else "large")) for row in range(4)]
    assert rows_of(collection, traits)[0][1].endswith(": nothing that most of them share")


@pytest.mark.parametrize(
    ("splits", "shown", "said"),
    [
        (("train", "test", "validation"), "s2-7", "in 2 of 2 held-out individuals"),
        (("test", "train", "train"), "s0-7", "in 1 of 1 held-out individuals"),
        (("train", "train", "train"), "s2-7", "none is held out; the picture is of a training image"),
    ],
)
def test_the_picture_is_of_a_held_out_image_where_there_is_one(splits, shown, said):
    collection = of_split(collection_of(["Aus bus"] * 3), *splits)
    traits = [trait_of(row, 7, described()) for row in range(3)]
    strong = dataclasses.replace(traits[2].candidate, peak=5.0)
    traits[2] = dataclasses.replace(traits[2], candidate=strong)
    (trait,) = SpeciesTraits().run(made_evidence(collection, traits)).traits
    assert trait.picture.trait_id == shown
    assert trait.picture.split == splits[int(shown[1])]
    assert rows_of(collection, traits)[0][3] == said


@pytest.mark.parametrize(
    ("said", "splits", "shown"),
    [
        # The strongest of which the first word is said, and most of all words; image 0 is the strongest, 5 the weakest.
        (["blue", "red", "red", "red", "red", "red"], "tttttt", 1),
        # All words rather than most of them, unless it is less than half as strong.
        (["red small", "red large", *["red large even"] * 4], "tttttt", 2),
        (["red large", "red even", "red even", "large even", "red large", "red large even"], "tttttt", 0),
        (["large even", "red small", *["red large even"] * 4], "tttttt", 2),
        # A held-out image rather than a stronger one for training, unless it does not show it.
        (["red", "red", "red", "red", "red", "red"], "ttttth", 5),
        (["red", "red", "red", "red", "blue", "blue"], "tttthh", 0),
        # Nothing is shared: the strongest of a held-out image.
        (["red", "blue", "grey", "black", "white", "brown"], "tttthh", 4),
    ],
)
def test_the_picture_shows_what_is_said_beside_it(said, splits, shown):
    names = {"red": "colour", "blue": "colour", "grey": "colour", "black": "colour", "white": "colour"}
    names |= {"brown": "colour", "small": "size", "large": "size", "even": "texture"}
    collection = of_split(collection_of(["Aus bus"] * 6), *("train" if one == "t" else "test" for one in splits))
    traits = []
    for row, words in enumerate(said):
        trait = trait_of(row, 7, described(**{names[word]: word for word in words.split()}))
        traits.append(dataclasses.replace(trait, candidate=dataclasses.replace(trait.candidate, peak=9.0 - row)))
    (found,) = SpeciesTraits().run(made_evidence(collection, traits)).traits
    assert found.picture.trait_id == f"s{shown}-7"
    assert found.picture.split == collection.images[shown].split


def test_of_equally_strong_regions_the_one_that_is_least_likely_background_is_shown():
    collection = collection_of(["Aus bus"] * 3)
    traits = [trait_of(row, 7, described(colour="red")) for row in range(3)]
    traits = [
        dataclasses.replace(trait, candidate=dataclasses.replace(trait.candidate, peak=1.0, background=background))
        for trait, background in zip(traits, (0.4, 0.1, 0.3), strict=True)
    ]
    (found,) = SpeciesTraits().run(made_evidence(collection, traits)).traits
    assert found.picture.trait_id == "s1-7"


def test_beside_the_picture_is_a_region_of_the_relative_at_the_same_place():
    collection = collection_of(["Aus s0", "Aus s1", "Aus s2"])

    def at(trait, distance, along):
        placed = dataclasses.replace(trait.measurement, distance_from_centre=distance, position_along_axis=along)
        return dataclasses.replace(trait, measurement=placed)

    traits = [
        at(with_contrast(trait_of(0, 7, described())), 0.5, 0.3),
        at(with_contrast(trait_of(1, 3, described(colour="red"))), 0.45, 0.35),
        at(with_contrast(trait_of(1, 4, described(colour="blue"))), 0.9, 0.3),
        at(with_contrast(trait_of(2, 5, described(colour="blue"))), 0.5, 0.3),
    ]
    shares = shares_of(3)
    shares.training.fired[2, 7] = 4  # so that the latent fires in more of Aus s1
    evidence = made_evidence(collection, traits, latents=latents_of(collection, traits), firing=lambda: shares)
    first, near, alone, other = SpeciesTraits().run(evidence).traits
    assert (first.relative.species, first.relative.picture.trait_id) == ("Aus s1", "s1-3")
    assert (near.relative.picture.trait_id, alone.relative) == ("s0-7", None)
    assert other.relative.species == "Aus s0", "of two alike the first by name"
    assert [picture.trait_id for picture in first.pictures] == ["s0-7", "s1-3"]
    assert [picture.trait_id for picture in alone.pictures] == ["s1-4"]
    files = [picture.file for row in (first, near, alone, other) for picture in row.pictures]
    assert len(set(files)) == len(files) == 7
    lines = [line for line in section(SpeciesTraits(), evidence).splitlines() if line.startswith("| ![")]
    cells = [line.strip("| ").split(" | ")[:2] for line in lines]
    assert cells[0][1] == f'![Aus s1]({first.relative.picture.file} "{collection.images[1].file}") Aus s1'
    assert cells[0][0] == f'![latent 7]({first.picture.file} "{collection.images[0].file}")'
    assert cells[2][1] == "none comparable"
    back = Results.from_json(run_tasks(evidence, [SpeciesTraits()]).to_json()).tasks["species_traits"]
    assert back.traits[0].relative == first.relative


@pytest.mark.parametrize(
    ("colours", "said"),
    [
        (["brown", "rufous", "tan", "brown", "blue"], {("tan/brown/rufous", 0.8)}),
        (["brown", "brown", "brown", "rufous", "blue"], {("brown", 0.6)}),  # which is more than its family says
        (["brown", "tan", "blue", "grey", "white"], set()),
    ],
)
def test_where_individuals_agree_on_no_name_of_a_colour_its_family_is_said(colours, said):
    collection = collection_of(["Aus bus"] * 5)
    traits = [trait_of(row, 7, described(colour=colour)) for row, colour in enumerate(colours)]
    (found,) = SpeciesTraits().run(made_evidence(collection, traits)).traits
    assert {(one.value, one.share) for one in found.shared} == said
    assert found.picture.trait_id in [f"s{row}-7" for row, colour in enumerate(colours) if not said or colour != "blue"]


def test_it_is_said_where_every_photograph_counts_as_an_individual():
    collection = collection_of(["Aus s0", "Aus s1"])
    traits = [with_contrast(trait_of(row, 7, described(colour="red"))) for row in range(2)]
    said = "Nothing says which photographs show the same individual"
    assert said in section(SpeciesTraits(), made_evidence(collection, traits))
    images = tuple(dataclasses.replace(record, individual_id="one") for record in collection.images)
    named = dataclasses.replace(collection, images=images)
    assert said not in section(SpeciesTraits(), made_evidence(named, traits))


@pytest.mark.parametrize(
    ("rank", "is_comparable"), [("genus", True), ("family", True), ("order", False), ("collection", False)]
)
def test_farther_relatives_are_not_shown_and_it_is_said_that_there_are_no_close_ones(rank, is_comparable):
    collection = collection_of(["Aus s0", "Aus s1"])
    traits = [
        dataclasses.replace(trait, measurement=dataclasses.replace(trait.measurement, distance_from_centre=0.5))
        for trait in (
            with_contrast(trait_of(row, row, described(colour="red")), reference_rank=rank) for row in range(2)
        )
    ]
    taxa = tuple(Taxon(order="O", family="F", genus="Aus", species=f"Aus s{n}") for n in range(2))
    training, held_out = (dataclasses.replace(of, taxa=taxa) for of in (shares_of(2).training, shares_of(2).held_out))
    firing = FiringShares(training, held_out)
    evidence = made_evidence(collection, traits, latents=latents_of(collection, traits), firing=lambda: firing)
    result = SpeciesTraits().run(evidence)
    assert all((trait.relative is not None) == is_comparable for trait in result.traits)
    assert result.without_close_relatives == (frozenset() if is_comparable else {"Aus s0", "Aus s1"})
    said = section(SpeciesTraits(), evidence).count("No other species of its genus or family is here")
    assert said == (0 if is_comparable else 2)


def test_what_most_latents_of_most_other_species_share_is_left_out_where_other_words_remain():
    """Of three others two are plain at most of their latents, and small at half of them."""
    plain, small = PLAIN, {"size": "small"}
    usual = {5: [(plain | small, 2)], 6: [(plain | small, 2)], 7: [(plain, 2)], 8: [(plain, 2)], 9: [({}, 2)]}
    words = {
        "Aus s0": {1: [(RED | plain | small, 2)], 2: [(plain, 2)]},
        "Aus s1": usual,
        "Aus s2": usual,
        "Aus s3": {5: [(BANDED | small, 2)]},
    }
    collection, traits = described_species(words, n_individuals=2)
    first, second, *_ = [row[1].partition(": ")[2] for row in rows_of(collection, traits)]
    assert first == "colour red (100 %), size small (100 %)"
    assert second.startswith("pattern plain (100 %)"), "a row that would be empty keeps its words"
    (row, *_) = SpeciesTraits().run(made_evidence(collection, traits)).traits
    assert [(one.value, one.is_usual) for one in row.shared] == [("red", False), ("plain", True), ("small", False)]
    del words["Aus s2"]
    row = rows_of(*described_species(words, n_individuals=2))[0]
    assert row[1].endswith(": colour red (100 %), pattern plain (100 %), size small (100 %)"), "one of two is not most"


def test_what_tells_is_said_however_usual_it_is_and_comes_first():
    """All other species are red, but the one relative is not."""
    words = {"Aus s0": {1: [(RED | {"size": "small"}, 5)]}, "Aus s1": {2: [(BLUE, 5)]}}
    words |= {f"Bus s{n}": {3: [(RED, 5)]} for n in range(4)}
    collection, traits = described_species(words)
    row = rows_of(collection, traits, firing=lambda: shares_of(2))[0]
    assert row[1].endswith("**colour red** (100 %, relatives 0 %), **size small** (100 %, relatives 0 %)")
    words["Aus s1"] = {2: [(RED, 5)]}
    row = rows_of(*described_species(words), firing=lambda: shares_of(2))[0]
    assert row[1].endswith("individuals: **size small** (100 %, relatives 0 %)")


def test_a_latent_of_another_species_does_not_speak_for_the_images_own():
    collection = collection_of(["Aus bus", "Aus cus"])
    traits = [trait_of(row, 7, described()) for row in range(2)]
    of_one = latents_of(collection, traits[:1])
    assert [row[0] for row in rows_of(collection, traits, latents=of_one)] == ["Aus bus"]


def test_regions_without_latents_are_shown_and_not_compared():
    collection = collection_of(["Aus bus", "Aus bus"])
    trait = trait_of(0, 7, described(colour="red"))
    candidate = dataclasses.replace(trait.candidate, region_source="gradcam", latent=None, contrast=None, peak=None)
    ((_, said, shares, _, verdict),) = rows_of(collection, [dataclasses.replace(trait, candidate=candidate)])
    assert (said, shares, verdict) == (
        "gradcam, described from 1 of 2 individuals: one alone shares nothing",
        "1 of 2 individuals",
        "not compared",
    )


def test_species_of_which_nothing_was_described_are_named_and_counted():
    collection = collection_of(["Aus bus", "Aus cus", "Aus dus", "Aus dus"])
    evidence = made_evidence(collection, [trait_of(2, 7, described())])
    result = SpeciesTraits().run(evidence)
    assert result.without_trait == ("Aus bus", "Aus cus")
    assert "          2 species without any trait" in SpeciesTraits().lines(result)
    assert "No trait at all for Aus bus, Aus cus: too few photographs" in section(SpeciesTraits(), evidence)
    everywhere = made_evidence(collection, [trait_of(row, 7, described()) for row in range(4)])
    assert SpeciesTraits().run(everywhere).without_trait == ()
    assert "No trait at all" not in section(SpeciesTraits(), everywhere)


def test_many_species_are_cut_off_and_counted_and_none_is_said():
    names = [f"Aus b{number:03d}" for number in range(MAX_SPECIES + 1)]
    traits = [trait_of(row, 1, described(colour="red")) for row in range(len(names))]
    collection = collection_of(names)
    assert len(rows_of(collection, traits)) == MAX_SPECIES
    assert f"The first {MAX_SPECIES} of {MAX_SPECIES + 1} species." in section(
        SpeciesTraits(), made_evidence(collection, traits)
    )
    nothing = made_evidence(collection, [])
    assert "No image with a trait has a species." in section(SpeciesTraits(), nothing)
    assert SpeciesTraits().lines(SpeciesTraits().run(nothing)) == []


def test_it_is_written_and_read_back_also_where_nothing_was_tested():
    collection = collection_of(["Aus bus"])
    trait = with_contrast(trait_of(0, 7, described()), q_value=math.nan, significant=False)
    results = run_tasks(made_evidence(collection, [trait]), [SpeciesTraits()])
    back = Results.from_json(results.to_json()).tasks["species_traits"]
    assert back.traits[0].comparison.is_tested is False
    assert back.verdicts == results.tasks["species_traits"].verdicts
    assert back.traits[0].verdict == results.tasks["species_traits"].traits[0].verdict
