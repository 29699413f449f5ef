import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import integers

from sae_traits.evaluation.ranking import chance_p_value, rank_truth


def unit_vectors(generator, n, width=8):
    found = generator.normal(size=(n, width)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@settings(max_examples=30, deadline=None)
@given(seed=integers(0, 1000), n_classes=integers(2, 9))
def test_ranks_are_those_of_sorting(seed, n_classes):
    generator = np.random.default_rng(seed)
    images, classes = unit_vectors(generator, 20), unit_vectors(generator, n_classes)
    truth = generator.integers(n_classes, size=20)
    ranks = rank_truth(images, classes, truth, generator.random(20))
    order = np.argsort(-(images @ classes.T), axis=1)
    assert (order[np.arange(20), ranks] == truth).all()


def test_classes_that_look_alike_share_the_first_places_evenly_and_never_by_order():
    n_images, n_classes = 6000, 4
    images = np.tile(np.float32([1, 0]), (n_images, 1))
    classes = np.tile(np.float32([1, 0]), (n_classes, 1))
    truth = np.arange(n_images) % n_classes
    draws = np.random.default_rng(0).random(n_images)
    ranks = rank_truth(images, classes, truth, draws)
    for own in range(n_classes):
        shares = np.bincount(ranks[truth == own], minlength=n_classes) / (n_images / n_classes)
        assert shares == pytest.approx([0.25] * 4, abs=0.04)


def test_the_last_bits_of_a_float_do_not_decide():
    """Equal texts in batches of another size differ by rounding; 1e-7 must not send every image to one class."""
    images = np.tile(np.float32([1, 0]), (2000, 1))
    classes = np.float32([[1, 0], [1 - 1e-7, 0]])
    ranks = rank_truth(images, classes, np.ones(2000, dtype=int), np.random.default_rng(0).random(2000))
    assert (ranks == 0).mean() == pytest.approx(0.5, abs=0.04)


def test_the_order_of_classes_does_not_matter():
    generator = np.random.default_rng(1)
    images, classes, draws = unit_vectors(generator, 50), unit_vectors(generator, 6), generator.random(50)
    classes[3] = classes[1]
    truth = generator.integers(6, size=50)
    order = generator.permutation(6)
    place = np.argsort(order)
    assert (rank_truth(images, classes, truth, draws) == rank_truth(images, classes[order], place[truth], draws)).all()


def test_many_images_are_scored_in_pieces_and_come_out_the_same():
    generator = np.random.default_rng(2)
    images, classes, draws = unit_vectors(generator, 5000, 3), unit_vectors(generator, 2000, 3), generator.random(5000)
    truth = generator.integers(2000, size=5000)
    together = rank_truth(images, classes, truth, draws)  # ten million scores
    halves = [rank_truth(images[half], classes, truth[half], draws[half]) for half in (slice(2500), slice(2500, None))]
    assert (together == np.concatenate(halves)).all()


def test_chance_counts_assignments_of_texts_as_by_hand():
    """Three classes: all six assignments can be written down."""
    classes = np.eye(3, dtype=np.float32)
    truth = np.array([0, 0, 0, 1, 1, 2])
    images = classes[[0, 0, 1, 1, 2, 2]]  # four of six right
    right = [
        sum(assignment[label] == first for label, first in zip(truth, [0, 0, 1, 1, 2, 2], strict=True))
        for assignment in itertools.permutations(range(3))
    ]
    expected = sum(count >= 4 for count in right) / 6
    assert chance_p_value(images, classes, truth, n_permutations=6000) == pytest.approx(expected, abs=0.02)


def test_perfect_is_above_chance_and_one_answer_for_all_is_not():
    classes = np.eye(8, dtype=np.float32)
    truth = np.repeat(np.arange(8), 5)
    assert chance_p_value(classes[truth], classes, truth) == pytest.approx(1 / 2000)
    # Two thirds of the images are of one class, and the model always says that one.
    lopsided = np.concatenate([np.full(80, 3), truth])
    assert chance_p_value(classes[np.full(len(lopsided), 3)], classes, lopsided) > 0.1
    # All classes tie everywhere.
    assert chance_p_value(classes[truth], np.ones((8, 8), dtype=np.float32), truth) == 1


def test_clusters_without_knowledge_are_below_five_percent_about_five_times_in_a_hundred():
    """Images in tight clusters by class, texts at random: a test that permutes images would reject most of these."""
    rejected = 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        truth = np.repeat(np.arange(12), 10)
        images = unit_vectors(generator, 12)[truth]
        rejected += chance_p_value(images, unit_vectors(generator, 12), truth, n_permutations=199, seed=seed) <= 0.05
    assert rejected / 200 <= 0.09
