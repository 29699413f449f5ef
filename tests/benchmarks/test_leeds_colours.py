"""The comparison with the field guide: what it counts, and that its control is one."""

# pyright: reportMissingImports=false

import csv
import os
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # benchmarks are scripts, not a package

from leeds_colours import GUIDE, Named, check_quotes, deals, guide_colors, overall_row, species_row

from sae_traits.describers.colours import VOCABULARY, color_family

SPECIES = sorted(GUIDE)


def regions_of(color_of):
    """Ten images a species with one region each, of the colour that a function names."""
    return [
        Named(10 * row + number, species, (color_of(species, number),))
        for row, species in enumerate(SPECIES)
        for number in range(10)
    ]


def test_every_colour_of_the_guide_is_a_word_that_can_be_named():
    families = {color_family(name) for name in VOCABULARY}
    assert all(guide_colors(species) <= families for species in SPECIES)


def test_no_deal_leaves_a_species_its_own_guide():
    orders = np.array(list(deals(10)))
    assert len(orders) == 2000
    assert not (orders == np.arange(10)).any()
    assert (np.sort(orders, axis=1) == np.arange(10)).all()


def test_regions_of_the_guides_own_colours_all_hit_and_beat_every_deal():
    named = regions_of(lambda species, number: sorted(guide_colors(species))[number % len(guide_colors(species))])
    _, n, observed, _, p = overall_row("own", named)
    assert (n, observed, p) == ("100", "1.000 [1.000, 1.000]", "0.0005")
    for species in SPECIES:
        assert species_row(species, named, SPECIES)[2:5] == ["–", "–", "1.000 [1.000, 1.000]"]


def test_regions_of_one_colour_everywhere_are_no_better_than_dealt_guides():
    _, _, observed, dealt, p = overall_row("black", regions_of(lambda species, number: "black"))
    assert observed.split()[0] == dealt.split()[0] == "0.700"
    assert p == "1.0000"


def test_a_further_colour_makes_a_hit_and_a_rare_colour_a_miss():
    named = [Named(i, "Danaus plexippus", ("brown", "black") if i < 2 else ("brown",)) for i in range(20)]
    row = species_row("Danaus plexippus", named, SPECIES)
    assert row[1:5] == ["black 10 %", "orange 0 %", "brown 100 %", "0.000 [0.000, 0.000]"]


@pytest.mark.skipif(not os.environ.get("SAE_TRAITS_SHARED"), reason="SAE_TRAITS_SHARED names no folder with the guide")
def test_the_words_are_those_of_the_descriptions():
    shared = Path(os.environ["SAE_TRAITS_SHARED"])
    check_quotes(shared)
    with (shared / "data/leeds_butterfly/reference_descriptions.csv").open(newline="", encoding="utf-8") as file:
        assert {row["species"] for row in csv.DictReader(file)} == set(GUIDE)
