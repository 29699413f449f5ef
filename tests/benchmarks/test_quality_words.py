"""Words and verdicts of one half of the individuals are looked for in the other."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
from evaluation.made_results import latents_of
from scipy.sparse import csr_array
from traits.made_traits import collection_of, described, trait_of

from sae_traits.schema import Contrast, Taxon
from sae_traits.traits.firing_shares import FiringShares
from sae_traits.traits.species_counts import SpeciesCounts

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # benchmarks are scripts, not a package

from quality_words import Run, rows_of, untold

CONTRAST = Contrast(f_species=0.9, f_reference=0.1, effect=2.0, q_value=0.01, significant=True, reference_rank="genus")


def made_run(n_banded, n_individuals=20):
    """Two species: all of the first are red, of the second blue, at a latent each; so many of the first are banded."""
    species = [name for name in ("Aus bus", "Aus cus") for _ in range(n_individuals)]
    collection = collection_of(species)
    traits = []
    for row, name in enumerate(species):
        latent = int(name == "Aus cus")
        pattern = "banded" if row < n_banded else "spotted" if latent == 0 else "plain"
        trait = trait_of(row, latent, described(colour=("red", "blue")[latent], pattern=pattern))
        candidate = dataclasses.replace(trait.candidate, contrast=CONTRAST, background=0.1)
        traits.append(dataclasses.replace(trait, candidate=candidate))
    taxa = tuple(Taxon(genus="Aus", species=name) for name in ("Aus bus", "Aus cus"))
    fired = csr_array(np.array([[18, 2], [2, 18]], dtype=np.int32))
    counts = SpeciesCounts(taxa, 2, np.array([20, 20]), fired, fired.astype(np.int64))
    return Run(collection, traits, latents_of(collection, traits), FiringShares(counts, counts))


def test_what_holds_of_all_individuals_holds_again_and_what_holds_of_half_of_them_seldom():
    row, attributes = rows_of("made", made_run(n_banded=11))
    assert row[:3] == ["made", "2", "0"]
    assert row[3:5] == ["1.000 of 2", "none"]
    told = {attribute: (again, most) for _, attribute, again, most in attributes}
    assert told["colour"] == ("1.000 of 2", "1.000 of 2")
    assert told["pattern"][0].startswith("1.000"), "neither is ever said of the other species"
    of_most = float(told["pattern"][1].split()[0])
    assert 0.4 < of_most < 0.9, "plain is said of all of the second species, and no pattern of most of both halves else"


def test_halves_are_all_individuals_of_each_species_once():
    run = made_run(n_banded=20)
    for first, second in run.deals():
        assert len(first) == len(second) == 20
        assert first.isdisjoint(second)
        assert len(first & {record.individual_id for record in run.collection.images[:20]}) == 10


def test_a_latent_that_lacks_a_word_alone_is_known():
    run = made_run(n_banded=20)
    alike = [dataclasses.replace(trait, description=run.traits[0].description) for trait in run.traits]
    found = dataclasses.replace(run, traits=alike).read_from().latents
    assert [untold(one) for one in found.values()] == [True, True]
    assert rows_of("alike", dataclasses.replace(run, traits=alike))[0][1:3] == ["0", "2"]
