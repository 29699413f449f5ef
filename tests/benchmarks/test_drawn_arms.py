"""Which traits another species gets, which species a base must not know, and how arms are paired over species."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # benchmarks are scripts, not a package

from drawn_arms import NONE, Measured, difference, differences_table, pooled
from drawn_pairs import deal, seen_rows, species_without, traits_of

from demo_clip.sketches import Sketches
from demo_clip.species import looks, training_species


def two_species():
    """Two species of two pictures, each with two sentences."""
    species = tuple(training_species(np.random.default_rng(seed)) for seed in (1, 2))
    pixels = np.zeros((2, 2, 4, 4, 3), np.uint8)
    said = (
        (("Red, plain.", "Even."), ("Red, plain.", "Round.")),
        (("Blue, banded.", "Long."), ("Blue, banded.", "Thin.")),
    )
    return Sketches(species, pixels, said)


@pytest.mark.parametrize("n", [2, 3, 40])
@pytest.mark.parametrize("seed", [0, 1])
def test_everyone_is_dealt_another_and_nobody_twice(n, seed):
    dealt = deal(n, seed)
    assert sorted(dealt) == list(range(n))
    assert (dealt != np.arange(n)).all()


def test_dealt_rows_differ_from_own_ones_in_what_is_said_alone():
    sketches = two_species()
    own, dealt = (list(seen_rows(sketches, 2, speaker)) for speaker in ([0, 1], [1, 0]))
    assert [said["txt"] for _, said in own[:2]] == ["red, plain", "even"]
    assert [said["txt"] for _, said in dealt[:2]] == ["blue, banded", "long"]
    assert [said["json"] for _, said in own] == [said["json"] for _, said in dealt]
    assert len(own) == len(dealt) == 8
    assert own[0][1]["caption.txt"] == f"{sketches.species[0].binomial} with red, plain and even"


def test_a_species_is_told_by_what_its_first_pictures_say_most_often():
    assert traits_of(two_species(), 2)[0][0] == "red, plain"
    assert "round" not in traits_of(two_species(), 1)[0]


def test_an_invented_species_has_none_of_the_looks_that_are_taken():
    taken = looks(training_species(np.random.default_rng([0, 1])))
    assert not looks(species_without([0, 1], taken)) & taken


def test_arms_are_paired_over_species_and_the_sign_is_first_minus_second():
    better = Measured((1.0, 1.0, 1.0, 0.0), ("a", "a", "b", "b"))
    worse = Measured((0.5, 0.5, 0.5, -0.5), ("a", "a", "b", "b"))
    interval = difference(better, worse)
    # Species differ by much and the arms by the same in both: what is common to a species cancels out.
    assert (interval.mean, interval.low, interval.high, interval.n_groups) == (0.5, 0.5, 0.5, 2)


def test_arms_that_were_asked_other_questions_are_not_compared():
    with pytest.raises(ValueError, match="other species"):
        difference(Measured((1.0, 0.0), ("a", "b")), Measured((1.0, 0.0), ("b", "a")))


def test_seeds_of_a_species_are_one_group_and_the_primary_comparison_comes_first():
    measures = ("unseen: by name and traits", "seen: found by name", "seen: found by name and traits")
    measures += ("unseen: by name", "general: found by words")

    def result(value):
        return {measure: Measured((value, value), ("a", "b")) for measure in measures}

    assert difference(pooled([result(1.0)] * 3, measures[0]), pooled([result(0.0)] * 3, measures[0])).n_groups == 2
    values = {NONE: 0.1, "species": 0.2, "own traits": 0.7, "another species' traits": 0.3}
    values |= {f"names and captions, {which}": 0.5 for which in ("one projection", "two projections")}
    values["own traits, with replay"] = 0.6
    table = differences_table({name: [result(value)] * 3 for name, value in values.items()})
    first = table.splitlines()[2]
    assert "own traits − another species' traits" in first
    assert "0.400 [0.400, 0.400] | 0.400, 0.400, 0.400" in first
