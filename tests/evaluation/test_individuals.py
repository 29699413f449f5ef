"""Counts and intervals go by individual: more photographs of the same organisms say nothing new."""

import dataclasses
from collections.abc import Iterable

import numpy as np
import pytest
from evaluation.made_results import made_evidence
from toy_world import BagOfWords, make_world

from sae_traits.config.zero_shot import ZeroShotConfig
from sae_traits.evaluation.statistics import Interval
from sae_traits.evaluation.tasks.species_traits import SpeciesTraits
from sae_traits.evaluation.tasks.zero_shot import evaluate_collection
from sae_traits.evaluation.text import rank_traits
from sae_traits.schema import Collection


def photographed(world, n_times):
    """The same world with so many photographs of every individual, each with the same traits."""
    collection, images, traits = world
    n = len(collection.images)
    records = tuple(
        dataclasses.replace(record, image_id=f"{record.image_id}-{time}", individual_id=record.individual_id)
        for time in range(n_times)
        for record in collection.images
    )
    again = [
        dataclasses.replace(t, candidate=dataclasses.replace(t.candidate, image=t.candidate.image + time * n))
        for time in range(n_times)
        for t in traits
    ]
    return Collection(collection.root, records), np.tile(images, (n_times, 1)), again


def evaluate(world, seed):
    collection, images, traits = world
    config = ZeroShotConfig(clip="some/clip")
    return evaluate_collection(BagOfWords(), images, range(len(images)), collection, traits, config, seed)


def intervals(value):
    """All intervals within a result."""
    if isinstance(value, Interval):
        return [value]
    if dataclasses.is_dataclass(value):
        value = vars(value).values() if hasattr(value, "__dict__") else []
    elif isinstance(value, dict):
        value = value.values()
    elif isinstance(value, str):
        return []
    return [found for item in value for found in intervals(item)] if isinstance(value, Iterable) else []


@pytest.mark.parametrize(("seed", "n_times"), [(0, 2), (1, 3), (2, 2)])
def test_more_photographs_of_every_individual_change_no_interval_and_no_test(seed, n_times):
    world = make_world(seed, n_species=5, splits={"train": 2, "validation": 2, "test": 4})
    alone, repeated = evaluate(world, seed), evaluate(photographed(world, n_times), seed)
    assert [i.n_groups for i in intervals(repeated.conditions)] == [20] * 3 * 5
    assert [i.n_groups for i in intervals([repeated.comparisons, repeated.dealt])] == [20, 5] * 4 + [5]
    assert (repeated.n_test, repeated.n_test_individuals) == (20 * n_times, 20)
    for own, found in zip(intervals(vars(alone)), intervals(vars(repeated)), strict=True):
        assert np.allclose([own.mean, own.low, own.high], [found.mean, found.low, found.high], atol=1e-9)
    assert [c.mcnemar for c in repeated.comparisons] == [c.mcnemar for c in alone.comparisons]


def test_texts_and_species_are_counted_by_individual():
    world = make_world(0, n_species=5)
    repeated = photographed(world, 3)
    assert rank_traits(repeated[0], repeated[2]) == rank_traits(world[0], world[2])
    once, thrice = (
        SpeciesTraits().run(made_evidence(collection, traits)) for collection, _, traits in (world, repeated)
    )
    assert (once.n_further_images, thrice.n_further_images) == (0, 270)
    assert dataclasses.replace(thrice, n_further_images=0) == once
