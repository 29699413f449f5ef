"""Texts against references, other describers and congeners; names that carry all the signal are seen to."""

import numpy as np
import pytest

from sae_traits.evaluation.measures.retrieval import retrieve
from sae_traits.evaluation.measures.text_quality import compare_with_references, describer_agreement, specificity


def test_what_a_reference_says_is_covered_or_contradicted():
    coverage, contradiction = compare_with_references(
        [["black wings", "a small head"], ["a red wing"], ["white and brown legs"], ["hairy"], ["a brown body"]],
        ["Wings black, legs brown; tiny.", "Wings blue.", "Legs dark brown.", "Legs brown.", "Hairy."],
    )
    assert coverage[:4] == pytest.approx([2 / 3, 0, 1, 0])
    assert contradiction[:3] == pytest.approx([0, 1, 0])
    assert np.isnan(coverage[4])
    assert np.isnan(contradiction[3:]).all()


def test_describers_who_say_the_same_agree_and_those_who_guess_do_not():
    generator = np.random.default_rng(0)
    colours = np.array(["black", "brown", "red", "white"])
    one, other = colours[generator.integers(4, size=(2, 400))]
    assert describer_agreement([one.tolist(), [f"a {word} wing" for word in one]], "colour") == 1
    assert describer_agreement([one.tolist(), other.tolist()], "colour") == pytest.approx(0, abs=0.1)
    assert describer_agreement([one.tolist(), [None, *one[1:].tolist()]], "colour") == 1
    assert np.isnan(describer_agreement([["hairy"], ["smooth"]], "colour"))


def test_a_text_that_fits_all_congeners_is_not_specific_and_a_lonely_species_has_none():
    prototypes = np.eye(5)
    genera = np.array(["a", "a", "a", "b", "b"])
    credit, chance = specificity(prototypes, np.arange(5), prototypes, genera)
    assert (credit == 1).all()
    assert chance == pytest.approx([1 / 3] * 3 + [1 / 2] * 2)
    of_genus, _ = specificity((genera[:, None] == genera).astype(float), np.arange(5), prototypes, genera)
    assert of_genus == pytest.approx(chance)
    alone = np.array(specificity(prototypes, np.arange(5), prototypes, ["a", "a", "a", "b", "c"]))
    assert np.isnan(alone[:, 3:]).all()


def test_where_only_names_carry_signal_stripped_texts_are_at_chance_and_names_at_the_ceiling():
    """Captions are a name and a phrase; images show the species and nothing that the phrase says."""
    generator = np.random.default_rng(0)
    species = np.repeat(np.arange(20), 10)
    names, phrases = np.eye(20, 40), generator.normal(size=(200, 40)) * (np.arange(40) >= 20)
    images = names[species] + 0.1 * generator.normal(size=(200, 40)) * (np.arange(40) < 20)

    def recall(texts):
        return retrieve(images, texts, species, species, ks=(1,)).recall[1]

    assert recall(names[species]).mean() == 1
    assert recall(names[species] + 0.1 * phrases).mean() == 1
    stripped = [recall(generator.permuted(phrases, axis=0)).mean() for _ in range(10)]
    assert np.mean(stripped) == pytest.approx(1 / 20, abs=0.03)
