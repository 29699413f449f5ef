"""Species without a significant latent: which could have had one, which could not, and which background tells apart."""

import numpy as np
import pytest
from made_traits import firings_of_all
from scipy.sparse import lil_array

from sae_traits.schema import Taxon
from sae_traits.traits.chosen import choose_latents, latents_on_background
from sae_traits.traits.contrast import specimen_contrast
from sae_traits.traits.species_counts import count_firings
from sae_traits.traits.untold_species import significance_in_words, untold_species

LARGE, SMALL = 30, 2


@pytest.fixture
def counts():
    """Latent 0 marks Gen a, 1 a few of it; 2 fires in all of the small Hen c."""
    sizes = {"Gen a": LARGE, "Gen b": LARGE, "Hen c": SMALL, "Hen d": SMALL}
    taxa = [Taxon(species=name, genus=name.split()[0]) for name, size in sizes.items() for _ in range(size)]
    fired = lil_array((len(taxa), 3), dtype=np.int32)
    fired[:LARGE, 0] = 1
    fired[: LARGE // 8, 1] = 1
    fired[2 * LARGE : 2 * LARGE + SMALL, 2] = 1
    return count_firings([firings_of_all(fired)], taxa, [str(row) for row in range(len(taxa))], 3)


@pytest.mark.parametrize("significant_only", [True, False])
def test_too_few_individuals_are_told_from_no_difference_whatever_is_exported(counts, significant_only):
    chosen = choose_latents(specimen_contrast(counts), np.ones(3, np.float32), significant_only=significant_only)
    untold = untold_species(chosen, counts)
    assert untold.species_too_few == ("Hen c", "Hen d")
    assert untold.species_none_passed == ("Gen b",)
    assert untold.species_only_on_background == {}


def test_a_species_that_only_latents_on_background_tell_apart_is_said_to_be_so(counts):
    dropped = latents_on_background(np.array([0.9, 0.1, 0.1], np.float32))
    tested = counts.without([drop.latent for drop in dropped])
    chosen = choose_latents(specimen_contrast(tested), np.ones(3, np.float32), dropped)
    untold = untold_species(chosen, counts)
    assert untold.species_none_passed == ("Gen a", "Gen b")
    assert untold.species_only_on_background == {"Gen a": 1}


def test_what_is_not_significant_is_said_to_be_perhaps_chance_and_nothing_where_nothing_was_tested():
    counts = {"n_traits": 1300, "n_significant": 0, "species_too_few": ["Hen c"], "species_none_passed": ["Gen a"]}
    chance, too_few, none_passed = significance_in_words(counts)
    assert chance.startswith("1,300 traits passed no test and may be what chance")
    assert too_few.endswith("they or their relatives have too few individuals: Hen c.")
    assert none_passed == "Species of which a latent could have passed the test and none did: Gen a."
    all_told = counts | {"n_significant": 1300, "species_too_few": [], "species_none_passed": []}
    assert significance_in_words(all_told) == []
    assert significance_in_words({"n_traits": 1300, "n_significant": 0}) == []
