"""Worlds without a signal are significant as often as is said, planted signals are found, and intervals cover.

Each figure is tried in worlds of its own: 20 in every run of the tests, 200 in the long ones.
"""

from functools import cache

import numpy as np
import pytest
from scipy.stats import spearmanr

from sae_traits.evaluation.measures.classification import score_classes
from sae_traits.evaluation.measures.retrieval import retrieve
from sae_traits.evaluation.measures.structure import (
    species_distances,
    structure_of_species,
    structure_of_traits,
    structure_of_variants,
)
from sae_traits.evaluation.statistics import bootstrap_interval, bootstrap_intervals, mcnemar, paired_difference

FEW, MORE = 39, 79
"""Permutations, so few that 5 % is exact, two-sided: 1 of 40 or 2 of 80 on either side."""
N_SPECIES, PER_SPECIES, D = 12, 10, 16
SPECIES = np.repeat(np.arange(N_SPECIES), PER_SPECIES)
GENUS = np.arange(N_SPECIES) // 4
SCALES = np.linspace(3, 0.5, D)
"""An anisotropic cloud, as embeddings are: without a null of its own every figure would be far from its expectation."""
NARROW = np.arange(D) >= D // 2
"""The directions in which it is narrow."""


def cloud(generator, n=N_SPECIES * PER_SPECIES):
    return generator.normal(size=(n, D)) * SCALES


def variants_of(generator):
    return generator.permuted(np.tile([0, 1], (N_SPECIES, PER_SPECIES // 2)), axis=1).ravel()


def share_in_span(generator, planted, n_permutations):
    """Variants differ in directions that no species' mean has."""
    means = cloud(generator, N_SPECIES) * ~NARROW * 2
    variants = variants_of(generator)
    directions = generator.normal(size=(N_SPECIES, D)) * NARROW * planted * 1.5
    embeddings = means[SPECIES] + cloud(generator) + variants[:, None] * directions[SPECIES]
    return structure_of_variants(embeddings, SPECIES, variants, n_permutations=n_permutations)["share_in_span"].p_value


def fisher_ratio(generator, planted, n_permutations):
    """Variants differ at all."""
    variants = variants_of(generator)
    directions = generator.normal(size=(N_SPECIES, D)) * planted
    embeddings = cloud(generator, N_SPECIES)[SPECIES] + cloud(generator) + variants[:, None] * directions[SPECIES]
    return structure_of_variants(embeddings, SPECIES, variants, n_permutations=n_permutations)["fisher_ratio"].p_value


def photographed_often(generator):
    """Embeddings of individuals of no species and no variant, of whom each has four photographs; their numbers."""
    individuals = cloud(generator)
    number = np.repeat(np.arange(len(individuals)), 4)
    return individuals[number] + 0.1 * cloud(generator, len(number)), number


def fisher_ratio_of_individuals(generator, planted, n_permutations):
    """Variants are of individuals, whose photographs are alike."""
    embeddings, number = photographed_often(generator)
    species, variants = SPECIES[number], variants_of(generator)[number]
    embeddings += cloud(generator, N_SPECIES)[species]
    embeddings += variants[:, None] * generator.normal(size=(N_SPECIES, D))[species] * planted * 2
    found = structure_of_variants(embeddings, species, variants, units=number, n_permutations=n_permutations)
    return found["fisher_ratio"].p_value


def within_variance_of_individuals(generator, planted, n_permutations):
    """Species differ where the cloud is narrow; the photographs of an individual are alike."""
    embeddings, number = photographed_often(generator)
    species = SPECIES[number]
    embeddings += 4 * planted * (generator.normal(size=(N_SPECIES, D)) * NARROW)[species]
    found = structure_of_species(embeddings, species, units=number, n_permutations=n_permutations)
    return found["within_variance_in_span"].p_value


def within_variance_in_span(generator, planted, n_permutations):
    """Species differ where the cloud is narrow."""
    means = 4 * planted * generator.normal(size=(N_SPECIES, D)) * NARROW
    found = structure_of_species(means[SPECIES] + cloud(generator), SPECIES, n_permutations=n_permutations)
    return found["within_variance_in_span"].p_value


def within_variance_given_genera(generator, planted, n_permutations):
    """Genera differ always, species within them when planted, where the cloud is narrow."""
    genera = 3 * generator.normal(size=(3, D))
    means = genera[GENUS] + 4 * planted * generator.normal(size=(N_SPECIES, D)) * NARROW
    found = structure_of_species(
        means[SPECIES] + cloud(generator), SPECIES, genera=GENUS[SPECIES], n_permutations=n_permutations
    )
    return found["within_variance_in_span_given_genera"].p_value


def traits_and_embeddings(generator, planted, genera):
    """Distances by traits, and embeddings; both show genera where these matter, and each other when planted."""
    genus = genera * 2 * generator.normal(size=(3, D))[GENUS]
    shared = planted * 2 * generator.normal(size=(N_SPECIES, D))
    one, other = (genus + shared + generator.normal(size=(N_SPECIES, D)) for _ in range(2))
    return one[SPECIES] + 0.1 * cloud(generator), species_distances(other, np.arange(N_SPECIES))


def trait_correlation(generator, planted, n_permutations):
    embeddings, traits = traits_and_embeddings(generator, planted, genera=0)
    found = structure_of_traits(embeddings, SPECIES, traits, n_permutations=n_permutations)
    return found["trait_correlation"].p_value


def trait_correlation_given_genera(generator, planted, n_permutations):
    embeddings, traits = traits_and_embeddings(generator, planted, genera=1)
    found = structure_of_traits(embeddings, SPECIES, traits, genera=GENUS, n_permutations=n_permutations)
    return found["trait_correlation_given_genera"].p_value


def two_classifiers(generator, planted):
    """Images [120, D], their classes, and two sets of class texts of which the second is better when planted."""
    truth = np.arange(120) % 6
    centres = generator.normal(size=(6, D))
    images = centres[truth] + 1.5 * generator.normal(size=(120, D))
    first = centres + 2 * generator.normal(size=(6, D))
    second = centres + (0.8 if planted else 2) * generator.normal(size=(6, D))
    return images, truth, first, second


def accuracy_by_mcnemar(generator, planted, _):
    """The null is two texts that are equally good images by image: the two sets dealt at random to every image."""
    images, truth, first, second = two_classifiers(generator, planted)
    right = np.stack([score_classes(images, texts, truth).top(1) for texts in (first, second)])
    if not planted:
        right = generator.permuted(right, axis=0)
    return mcnemar(*(right == 1)).p_value


def recall_by_paired_interval(generator, planted, _):
    """A p-value of 0 or 1: whether the interval of the difference leaves out zero."""
    images, truth, first, second = two_classifiers(generator, planted)
    recall = np.stack([retrieve(images, texts, truth, np.arange(6), ks=(1,)).recall[1] for texts in (first, second)])
    if not planted:
        recall = generator.permuted(recall, axis=0)
    difference = paired_difference(*recall, n_resamples=500)
    return float(difference.low <= 0 <= difference.high)


FIGURES = [
    share_in_span,
    fisher_ratio,
    within_variance_in_span,
    within_variance_given_genera,
    fisher_ratio_of_individuals,
    within_variance_of_individuals,
    trait_correlation,
    trait_correlation_given_genera,
    accuracy_by_mcnemar,
    recall_by_paired_interval,
]


def n_significant(figure, n_worlds, n_permutations, planted):
    generators = np.random.default_rng(20261128).spawn(n_worlds)
    return sum(figure(generator, planted, n_permutations) <= 0.05 for generator in generators)


@pytest.mark.parametrize("figure", FIGURES)
def test_at_most_4_of_20_worlds_without_a_signal_are_significant(figure):
    assert n_significant(figure, 20, FEW, planted=False) <= 4


@pytest.mark.parametrize("figure", FIGURES)
def test_a_planted_signal_is_found_in_most_of_5_worlds(figure):
    assert n_significant(figure, 5, FEW, planted=True) >= 4


@pytest.mark.slow
@pytest.mark.parametrize("figure", FIGURES)
def test_at_most_19_of_200_worlds_without_a_signal_are_significant(figure):
    assert n_significant(figure, 200, MORE, planted=False) <= 19


@pytest.mark.slow
@pytest.mark.parametrize("figure", FIGURES)
def test_a_planted_signal_is_found_in_40_of_50_worlds(figure):
    assert n_significant(figure, 50, MORE, planted=True) >= 40


N_SAMPLED = 30
"""Species of a sample: intervals are over species."""


def interval_of_variants(generator, name):
    """Many species, whose variants differ by a vector of a known law: 2 of 16 directions are those of the species."""
    species = np.repeat(np.arange(N_SAMPLED), 40)
    variants = np.tile([0, 1], len(species) // 2)
    means = 50 * generator.normal(size=(N_SAMPLED, 2)) @ np.eye(2, D)
    differences = generator.normal(size=(N_SAMPLED, D))
    noise = 0.05 * generator.normal(size=(len(species), D))
    noise -= sums_by(noise, species, variants)  # so that a sample's mean is its species' mean, and the span known
    embeddings = means[species] + (variants - 0.5)[:, None] * differences[species] + noise
    return structure_of_variants(embeddings, species, variants, n_permutations=1, seed=0)[name].interval


def sums_by(values, species, variants):
    means = values.reshape(N_SAMPLED, -1, 2, D).mean(axis=1)
    return means[species, variants]


def covers_share_in_span(generator):
    interval = interval_of_variants(generator, "share_in_span")
    return interval.low <= 2 / D <= interval.high


def covers_fisher_ratio(generator):
    """The mean squared difference is D, the variance of a variant 0.05^2 a direction, less what centring takes."""
    interval = interval_of_variants(generator, "fisher_ratio")
    truth = D / (2 * D * 0.05**2)
    of_centring = 1 / (1 - 1 / 20)  # with 20 images per variant
    return interval.low <= truth * of_centring <= interval.high


def covers_within_variance(generator):
    """Species are spread in 2 directions, their images differ by species, in all 16 equally."""
    species = np.repeat(np.arange(N_SAMPLED), 20)
    means = 1000 * generator.normal(size=(N_SAMPLED, 2)) @ np.eye(2, D)
    spread = generator.uniform(0.5, 2, size=N_SAMPLED)[species, None]
    noise = spread * generator.normal(size=(len(species), D))
    noise -= np.repeat(noise.reshape(N_SAMPLED, -1, D).mean(axis=1), 20, axis=0)
    found = structure_of_species(means[species] + noise, species, n_permutations=1)
    interval = found["within_variance_in_span"].interval
    return interval.low <= 2 / D <= interval.high


def trait_world(generator, n):
    shared = generator.normal(size=(n, 4))
    return [np.concatenate([shared, generator.normal(size=(n, 4))], axis=1) for _ in range(2)]


@cache
def trait_truth():
    """The correlation among so many species that it hardly varies."""
    one, other = trait_world(np.random.default_rng(0), 1500)
    pairs = np.triu_indices(1500, 1)
    return spearmanr(*(species_distances(of, np.arange(1500))[pairs] for of in (one, other))).statistic


def covers_trait_correlation(generator):
    one, other = trait_world(generator, N_SAMPLED)
    distances = species_distances(other, np.arange(N_SAMPLED))
    found = structure_of_traits(one, np.arange(N_SAMPLED), distances, n_permutations=1)
    interval = found["trait_correlation"].interval
    return interval.low <= trait_truth() <= interval.high


def covers_accuracy(generator):
    """Images of an individual are right together; intervals are over individuals."""
    rate = generator.beta(3, 2, size=60)
    groups = np.repeat(np.arange(60), 4)
    right = generator.random(240) < rate[groups]
    many = bootstrap_intervals(np.stack([right, right], axis=1), groups=groups, n_resamples=500, seed=3)
    one = bootstrap_interval(right, groups=groups, n_resamples=500)
    assert many[0] == many[1]
    assert many[0].low == pytest.approx(one.low, abs=0.05)
    return many[0].low <= 0.6 <= many[0].high


COVERED = [covers_share_in_span, covers_fisher_ratio, covers_within_variance, covers_trait_correlation, covers_accuracy]


def n_covered(covers, n_worlds):
    return sum(bool(covers(generator)) for generator in np.random.default_rng(20261129).spawn(n_worlds))


@pytest.mark.parametrize("covers", COVERED)
def test_intervals_cover_in_at_least_16_of_20_worlds(covers):
    assert n_covered(covers, 20) >= 16


@pytest.mark.slow
@pytest.mark.parametrize("covers", COVERED)
def test_intervals_cover_in_90_to_98_percent_of_200_worlds(covers):
    assert 180 <= n_covered(covers, 200) <= 196
