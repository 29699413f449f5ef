import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import floats, lists
from pydantic import TypeAdapter
from scipy.stats import chi2

from sae_traits.errors import ConfigError
from sae_traits.evaluation.statistics import (
    Interval,
    bootstrap_interval,
    bootstrap_intervals,
    holm,
    mcnemar,
    paired_difference,
)


def test_the_mean_is_over_values_not_over_groups():
    interval = bootstrap_interval([1, 1, 1, 0], groups=["a", "a", "a", "b"])
    assert interval.mean == 0.75
    # Resamples of two groups: aa -> 1, ab -> 0.75, bb -> 0.
    assert (interval.low, interval.high) == (0.0, 1.0)


def test_values_that_do_not_vary_have_an_interval_of_no_width():
    assert bootstrap_interval([2.5] * 7) == Interval(2.5, 2.5, 2.5, 7)


@pytest.mark.parametrize("value", [1 / 3, 0.1, 0.6, 1 / 7])
@pytest.mark.parametrize("n", [30, 77, 333])
def test_an_interval_of_constants_is_their_mean_whatever_their_sums_are_rounded_to(value, n):
    (several,) = bootstrap_intervals(np.full((n, 1), value))
    for interval in (several, bootstrap_interval(np.full(n, value))):
        assert interval.low == interval.mean == interval.high == pytest.approx(value)


def test_there_is_no_interval_without_two_groups_and_no_mean_without_values():
    alone = bootstrap_interval([0.0, 1.0], groups=[3, 3])
    assert alone.mean == 0.5
    assert math.isnan(alone.low)
    assert str(alone) == "0.500"
    nothing = bootstrap_interval([])
    assert str(nothing) == "none"
    text = TypeAdapter(Interval).dump_json(nothing)
    assert text == b'{"mean":null,"low":null,"high":null,"n_groups":0}'
    assert str(TypeAdapter(Interval).validate_json(text)) == "none"


def test_the_seed_decides():
    values = np.random.default_rng(1).normal(size=40)
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)


def test_the_interval_agrees_with_the_standard_error():
    values = np.random.default_rng(0).normal(10, 2, size=400)
    interval = bootstrap_interval(values)
    error = values.std(ddof=1) / 20
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_clustered_values_are_covered_only_when_groups_are_resampled():
    """40 groups of 5 equal values, truth 0: the grouped interval covers it about 95 % of the time, the other not."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 5)
    n_trials, grouped, ungrouped = 120, 0, 0
    for _ in range(n_trials):
        values = np.repeat(rng.normal(size=40), 5)
        inner = bootstrap_interval(values, groups=groups, n_resamples=400)
        outer = bootstrap_interval(values, n_resamples=400)
        grouped += inner.low <= 0 <= inner.high
        ungrouped += outer.low <= 0 <= outer.high
    assert 0.88 <= grouped / n_trials <= 0.99
    assert ungrouped / n_trials < 0.8


def answers(both, only_first, only_second, neither):
    """Two lists of right and wrong answers with these counts."""
    first = [1] * both + [1] * only_first + [0] * only_second + [0] * neither
    second = [1] * both + [0] * only_first + [1] * only_second + [0] * neither
    return first, second


@pytest.mark.parametrize(
    ("only_first", "only_second", "p_value"),
    [
        (1, 8, 2 * (1 + 9) / 2**9),  # by hand: 2 P(X <= 1) with X of 9 throws of a coin
        (2, 10, 2 * (1 + 12 + 66) / 2**12),
        (10, 2, 2 * (1 + 12 + 66) / 2**12),
        (4, 4, 1.0),
        (0, 0, 1.0),
    ],
)
def test_mcnemar_agrees_with_the_binomial_by_hand(only_first, only_second, p_value):
    found = mcnemar(*answers(7, only_first, only_second, 3))
    assert (found.only_first, found.only_second) == (only_first, only_second)
    assert found.p_value == pytest.approx(p_value, rel=1e-12)


def test_images_of_a_group_are_one_observation_for_mcnemar():
    """Three individuals: one gains on two of its three images, one loses on one, one gains and loses alike."""
    first, second = [0, 0, 1, 1, 1, 0], [1, 1, 1, 0, 0, 1]
    found = mcnemar(first, second, groups=["a", "a", "a", "b", "c", "c"])
    assert (found.only_first, found.only_second, found.p_value) == (1, 1, 1.0)
    once, thrice = mcnemar(*answers(7, 1, 8, 3)), np.repeat(np.array(answers(7, 1, 8, 3)), 3, axis=1)
    assert mcnemar(*thrice, groups=np.repeat(np.arange(19), 3)) == once
    assert mcnemar(*thrice).p_value < once.p_value, "as if they were individuals"


def test_mcnemar_agrees_with_the_textbook_on_approval_ratings():
    """Agresti, Categorical Data Analysis, section 10.1: 794, 150, 86, 570; chi-square 17.36 on 1 degree of freedom."""
    found = mcnemar(*answers(794, 150, 86, 570))
    assert pytest.approx(17.36, abs=0.01) == (150 - 86) ** 2 / (150 + 86)
    corrected = chi2.sf((abs(150 - 86) - 1) ** 2 / (150 + 86), 1)
    assert found.p_value == pytest.approx(corrected, rel=0.15)
    assert chi2.sf(17.36, 1) < found.p_value < 5e-5


def test_holm_agrees_with_a_hand_worked_case():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == pytest.approx([1.0, 1.0])
    assert holm([0.02]) == pytest.approx([0.02])
    assert len(holm([])) == 0


@given(lists(floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_no_correction_and_bonferroni_whatever_the_order(p_values):
    adjusted = holm(p_values)
    assert (adjusted >= p_values).all()
    assert (adjusted <= np.minimum(np.array(p_values) * len(p_values), 1) + 1e-15).all()
    assert holm(p_values[::-1])[::-1] == pytest.approx(adjusted)
    assert (np.diff(adjusted[np.argsort(p_values, kind="stable")]) >= 0).all()


def test_a_paired_difference_knows_that_the_images_are_the_same():
    rng = np.random.default_rng(0)
    easy = rng.normal(0, 3, size=300)
    first, second = easy + rng.normal(0, 0.1, size=300), easy + 0.5 + rng.normal(0, 0.1, size=300)
    found = paired_difference(first, second)
    error = (second - first).std(ddof=1) / 300**0.5
    assert found.mean == pytest.approx((second - first).mean())
    assert found.low == pytest.approx(found.mean - 1.96 * error, abs=0.2 * error)
    assert found.high == pytest.approx(found.mean + 1.96 * error, abs=0.2 * error)
    assert paired_difference(first, first) == Interval(0, 0, 0, 300)


def test_a_difference_of_booleans_counts_wins_minus_losses_and_can_resample_groups():
    first, second = answers(5, 1, 3, 1)
    assert paired_difference(np.array(first, dtype=bool), np.array(second, dtype=bool)).mean == pytest.approx(0.2)
    # Two species: one always gains, one never does.
    found = paired_difference([0, 0, 0, 0], [1, 1, 0, 0], groups=["a", "a", "b", "b"])
    assert found == Interval(0.5, 0.0, 1.0, 2)


def test_pairs_must_be_of_the_same_images():
    with pytest.raises(ConfigError, match="same images"):
        mcnemar([1, 0], [1, 0, 1])


def test_no_figure_is_written_as_less_than_nothing_where_it_rounds_to_nothing():
    assert str(Interval(-0.0001, -0.0004, 0.1, 3)) == "0.000 [0.000, 0.100]"
    assert str(Interval(-0.1, math.nan, math.nan, 1)) == "-0.100"
