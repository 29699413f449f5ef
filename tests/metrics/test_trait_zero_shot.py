"""The module of `evaluate`, loaded as its users load it."""

from pathlib import Path

import numpy as np
import pytest

from sae_traits.evaluation.measures.classification import score_classes
from sae_traits.evaluation.statistics import bootstrap_interval, paired_difference

FOLDER = str(Path(__file__).parents[2] / "metrics" / "trait_zero_shot")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    evaluate = pytest.importorskip("evaluate", reason="needs the extra `evaluate`")
    evaluate.config.HF_METRICS_CACHE = str(tmp_path_factory.mktemp("metrics"))
    return evaluate


@pytest.fixture(scope="module")
def metric(library):
    return library.load(FOLDER)


@pytest.fixture(scope="module")
def world():
    """Images of seven classes: cosines with names, which say little, and with traits, which say more."""
    generator = np.random.default_rng(3)
    truth = np.repeat(np.arange(7), 12)
    classes = generator.normal(size=(7, 16))
    images = classes[truth] + 1.5 * generator.normal(size=(84, 16))
    names = classes + 2 * generator.normal(size=(7, 16))
    unit = [vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (images, classes, names)]
    return truth, *unit


def test_the_figures_are_those_of_our_own_functions(metric, world):
    truth, images, classes, names = world
    individuals = np.arange(84) // 2
    found = metric.compute(
        predictions=images @ classes.T, references=truth, names_only=images @ names.T, individuals=individuals
    )
    with_traits, with_names = (score_classes(images, texts, truth) for texts in (classes, names))
    for k in (1, 3, 5):
        assert found[f"top{k}"] == pytest.approx(with_traits.top(k).mean())
    interval = bootstrap_interval(with_traits.top(1), groups=individuals)
    assert (found["top1_low"], found["top1_high"]) == pytest.approx((interval.low, interval.high))
    gain = paired_difference(with_names.top(1), with_traits.top(1), groups=individuals)
    assert (found["gain"], found["gain_low"], found["gain_high"]) == pytest.approx((gain.mean, gain.low, gain.high))
    assert found["gain_low"] > 0
    assert found["mcnemar_p"] < 0.05


def test_a_perfect_model_has_1_and_a_constant_one_chance(metric, world):
    truth = world[0]
    assert metric.compute(predictions=np.eye(7)[truth], references=truth)["top1"] == 1
    constant = metric.compute(predictions=np.ones((84, 7)), references=truth, names_only=np.ones((84, 7)))
    assert (constant["top1"], constant["top1_macro"]) == pytest.approx((1 / 7, 1 / 7))
    assert constant["gain"] == 0
    assert constant["mcnemar_p"] == 1


def test_permuted_images_have_the_same_figures(metric, world):
    truth, images, classes, _ = world
    order = np.random.default_rng(0).permutation(84)
    found = [
        metric.compute(predictions=(images @ classes.T)[rows], references=truth[rows], individuals=individuals)
        for rows, individuals in ((np.arange(84), truth), (order, truth[order]))
    ]
    assert found[0] == pytest.approx(found[1])


def test_class_numbers_do_as_well_as_similarities_and_can_be_added_batch_by_batch(metric, world):
    truth, images, classes, _ = world
    cosines = images @ classes.T
    for rows in np.array_split(np.arange(84), 5):
        metric.add_batch(predictions=cosines[rows].argmax(axis=1), references=truth[rows])
    numbers = metric.compute()
    assert numbers["top1"] == pytest.approx(metric.compute(predictions=cosines, references=truth)["top1"])
    assert set(numbers) == {"top1", "top1_low", "top1_high", "top1_macro"}


def test_it_can_be_combined_with_other_modules(library, world):
    truth, images, classes, _ = world
    combined = library.combine({"traits": library.load(FOLDER), "again": library.load(FOLDER)})
    found = combined.compute(predictions=(images @ classes.T).argmax(axis=1), references=truth)
    assert found["traits_top1"] == found["again_top1"] > 0.5
